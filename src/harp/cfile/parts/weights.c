/* A place in a layer's weights: the next one that is stored, and where it belongs. */
struct cursor {
  const uint8_t* gap;
  const stored_weight* value;
  uint32_t left;
  uint32_t position;
};

/* Move on to the next stored weight. Behind the last one the position is beyond every weight. */
static void advance(struct cursor* at) {
  if (at->left == 0) {
    at->position = UINT32_MAX;
    return;
  }
  at->left--;
  at->position++;
  if (at->gap) {
    for (; *at->gap == 255; at->gap++) at->position += 255;
    at->position += *at->gap++;
  }
}

static struct cursor first_of(const struct weights* weights) {
  struct cursor at;
  at.gap = weights->gaps;
  at.value = (const stored_weight*)weights->values;
  at.left = weights->count;
  at.position = UINT32_MAX; /* one before the first */
  advance(&at);
  return at;
}
