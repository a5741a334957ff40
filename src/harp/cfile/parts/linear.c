struct linear {
  struct weights weights;
  int32_t inputs, outputs;
};

/* Sums of weighted inputs. What is there already is kept and added to, if it is a residual. */
static void weigh(const struct linear* layer, const float* in, int residual, float* out) {
  struct cursor at = first_of(&layer->weights);
  uint32_t end = 0;
  int32_t output;
  for (output = 0; output < layer->outputs; output++) {
    const uint32_t begin = end;
    float sum = layer->weights.bias[output] + (residual ? out[output] : 0.0f);
    end += (uint32_t)layer->inputs;
    for (; at.position < end; at.value++, advance(&at)) {
      sum += weight_of(&layer->weights, *at.value, output) * in[at.position - begin];
    }
    out[output] = sum;
  }
}
