static void add_per_channel(const float* map, const float* numbers, int32_t channels, int32_t plane, float* out) {
  int32_t channel, i;
  for (channel = 0; channel < channels; channel++) {
    for (i = 0; i < plane; i++) *out++ = *map++ + numbers[channel];
  }
}
