static void silu(float* x, int32_t count, float slope) {
  int32_t i;
  (void)slope;
  for (i = 0; i < count; i++) x[i] = x[i] * (0.5f * (1.0f + tanhf(0.5f * x[i])));
}
