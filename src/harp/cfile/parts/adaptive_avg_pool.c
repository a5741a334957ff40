/* The means over rows x columns parts of a map, as equal as they can be. */
static void adaptive_avg_pool(int32_t channels, int32_t height, int32_t width, int32_t rows, int32_t columns,
                              const float* in, float* out) {
  int32_t channel, i, j, y, x;
  for (channel = 0; channel < channels; channel++, in += height * width) {
    for (i = 0; i < rows; i++) {
      const int32_t top = i * height / rows, bottom = ((i + 1) * height + rows - 1) / rows;
      for (j = 0; j < columns; j++) {
        const int32_t left = j * width / columns, right = ((j + 1) * width + columns - 1) / columns;
        float sum = 0.0f;
        for (y = top; y < bottom; y++) {
          for (x = left; x < right; x++) sum += in[y * width + x];
        }
        *out++ = sum / (float)((bottom - top) * (right - left));
      }
    }
  }
}
