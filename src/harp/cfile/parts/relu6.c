static void relu6(float* x, int32_t count, float slope) {
  int32_t i;
  (void)slope;
  for (i = 0; i < count; i++) x[i] = x[i] < 0.0f ? 0.0f : x[i] > 6.0f ? 6.0f : x[i];
}
