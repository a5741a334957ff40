static void gelu_tanh(float* x, int32_t count, float slope) {
  int32_t i;
  (void)slope;
  for (i = 0; i < count; i++)
    x[i] = 0.5f * x[i] * (1.0f + tanhf(0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
}
