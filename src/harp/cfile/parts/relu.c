static void relu(float* x, int32_t count, float slope) {
  int32_t i;
  (void)slope;
  for (i = 0; i < count; i++)
    if (x[i] < 0.0f) x[i] = 0.0f;
}
