static void avg_pool(const struct window* layer, int count_padding, const float* in, float* out) {
  int32_t channel, i, j, y, x;
  for (channel = 0; channel < layer->channels; channel++, in += layer->height * layer->width) {
    for (i = 0; i < layer->rows; i++) {
      const struct span down = span_of(i, layer->stride_down, layer->kernel_height, layer->padding_down, layer->height);
      for (j = 0; j < layer->columns; j++) {
        const struct span across =
            span_of(j, layer->stride_across, layer->kernel_width, layer->padding_across, layer->width);
        const int32_t count =
            count_padding ? down.padded * across.padded : (down.end - down.first) * (across.end - across.first);
        float sum = 0.0f;
        for (y = down.first; y < down.end; y++) {
          for (x = across.first; x < across.end; x++) sum += in[y * layer->width + x];
        }
        *out++ = sum / (float)count;
      }
    }
  }
}
