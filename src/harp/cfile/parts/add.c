static void add(const float* a, const float* b, int32_t count, float* out) {
  int32_t i;
  for (i = 0; i < count; i++) out[i] = a[i] + b[i];
}
