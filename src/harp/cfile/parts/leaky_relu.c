static void leaky_relu(float* x, int32_t count, float slope) {
  int32_t i;
  for (i = 0; i < count; i++) {
    if (!(x[i] > 0.0f)) x[i] = x[i] * slope;
  }
}
