static void max_pool(const struct window* layer, const float* in, float* out) {
  int32_t channel, i, j, y, x;
  for (channel = 0; channel < layer->channels; channel++, in += layer->height * layer->width) {
    for (i = 0; i < layer->rows; i++) {
      const struct span down = span_of(i, layer->stride_down, layer->kernel_height, layer->padding_down, layer->height);
      for (j = 0; j < layer->columns; j++) {
        const struct span across =
            span_of(j, layer->stride_across, layer->kernel_width, layer->padding_across, layer->width);
        float largest = in[down.first * layer->width + across.first];
        for (y = down.first; y < down.end; y++) {
          for (x = across.first; x < across.end; x++) largest = larger(largest, in[y * layer->width + x]);
        }
        *out++ = largest;
      }
    }
  }
}
