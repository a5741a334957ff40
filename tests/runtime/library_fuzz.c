/* Loads every file that is named, in C, and runs what is small enough: "taken", or the status, on a line each. Then the
 * mistakes that a caller can make. Compiled with sanitizers by test_library.py. */
#include <harp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEED(what)                                          \
  do {                                                      \
    if (!(what)) return printf("%s is not so\n", #what), 1; \
  } while (0)

enum { MOST = 1 << 20 };

static int run(harp_network* network) {
  int shape[3], axes, result[HARP_MOST_AXES];
  size_t bytes = 0, numbers = 1;
  harp_preprocessing how;
  harp_input(network, shape);
  harp_describe(network, &how);
  for (int i = 0; i < harp_classes(network); ++i) NEED(harp_class(network, i));
  NEED(!harp_class(network, -1) && !harp_class(network, harp_classes(network)) && harp_card(network));
  if ((double)shape[0] * shape[1] * shape[2] > MOST) return 0;
  NEED(harp_output(network, shape[1], shape[2], &axes, result) == HARP_OK);
  for (int axis = 0; axis < axes; ++axis) numbers *= result[axis];
  harp_images images = {NULL, HARP_FLOATS, 2, shape[1], shape[2]};
  if (harp_prepare(network, &images, 0, &bytes) != HARP_OK || bytes > 256u * MOST || numbers > MOST) return 0;
  void *pixels = calloc(2 * sizeof(float), (size_t)shape[0] * shape[1] * shape[2]), *arena = malloc(bytes);
  float *out = malloc(2 * sizeof(float) * numbers), *again = malloc(2 * sizeof(float) * numbers);
  NEED(pixels && arena && out && again);
  images.data = pixels;
  memset(arena, 0xFF, bytes);
  NEED(harp_run(network, &images, out, arena, bytes) == HARP_OK);
  memset(arena, 0, bytes);
  NEED(harp_run(network, &images, again, arena, bytes) == HARP_OK);
  NEED(!memcmp(out, again, 2 * sizeof(float) * numbers));
  NEED(harp_run(network, &images, out, arena, bytes - 1) == HARP_ARENA_TOO_SMALL && strstr(harp_error(), "expected"));
  NEED(harp_run(network, &images, out, arena, 0) == HARP_ARENA_TOO_SMALL);
  images.count = 0;
  NEED(harp_prepare(network, &images, 0, &bytes) == HARP_BAD_ARGUMENT);
  images.count = 1, images.height = -1;
  NEED(harp_run(network, &images, out, arena, bytes) == HARP_BAD_ARGUMENT);
  NEED(harp_run(network, NULL, out, arena, bytes) == HARP_BAD_ARGUMENT);
  free(pixels), free(arena), free(out), free(again);
  return 0;
}

int main(int count, char** names) {
  harp_network* network = NULL;
  for (int i = 1; i < count; ++i) {
    const harp_status status = harp_load_file(names[i], 1 + i % 2, &network);
    if (status == HARP_OK) {
      printf("taken\n");
      if (run(network)) return 1;
    } else {
      NEED(!network && *harp_error());
      printf("%d\n", (int)status);
    }
    harp_free(network);
    network = NULL;
  }
  NEED(harp_load_file("no such file", 1, &network) == HARP_CANNOT_READ);
  NEED(harp_load_file(NULL, 1, &network) == HARP_BAD_ARGUMENT);
  NEED(harp_load_memory("x", 1, 0, &network) == HARP_BAD_ARGUMENT);
  NEED(harp_load_memory("x", 1, 1, NULL) == HARP_BAD_ARGUMENT);
  NEED(harp_load_memory("x", 1, 1, &network) == HARP_DAMAGED);
  return 0;
}
