static void hardsigmoid(float* x, int32_t count, float slope) {
  int32_t i;
  (void)slope;
  for (i = 0; i < count; i++) {
    const float y = x[i] + 3.0f;
    x[i] = (y < 0.0f ? 0.0f : y > 6.0f ? 6.0f : y) / 6.0f;
  }
}
