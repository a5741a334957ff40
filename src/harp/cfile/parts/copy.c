static void copy(const float* in, int32_t count, float* out) {
  int32_t i;
  for (i = 0; i < count; i++) out[i] = in[i];
}
