/* libharp: runs networks that `harp export` wrote, on a CPU, from C.
 *
 *   harp_load_file → harp_prepare (how much memory a call takes) → harp_run, as often as you like → harp_free
 *
 * Every function that can fail returns a harp_status; harp_error() says in words what was wrong. A network may be used
 * from several threads at once, each with an arena of its own. Texts are UTF-8 and belong to the network. */
#ifndef HARP_H
#define HARP_H

#include <stddef.h>
#include <stdint.h>

#if defined(HARP_SHARED) && defined(_WIN32)
#ifdef HARP_BUILDING
#define HARP_API __declspec(dllexport)
#else
#define HARP_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define HARP_API __attribute__((visibility("default")))
#else
#define HARP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define HARP_MOST_AXES 6

typedef struct harp_network harp_network;

typedef enum harp_status {
  HARP_OK = 0,
  HARP_CANNOT_READ = 1,     /* no such file, or it cannot be read */
  HARP_DAMAGED = 2,         /* truncated, changed on its way, or no file of harp's */
  HARP_NEWER = 3,           /* written by a newer harp */
  HARP_INVALID = 4,         /* what it describes is no network that can be run */
  HARP_BAD_ARGUMENT = 5,    /* null, negative, or images of a size that the network does not take */
  HARP_ARENA_TOO_SMALL = 6, /* harp_error() has the size wanted; so has harp_prepare */
  HARP_NO_MEMORY = 7,
  HARP_NOT_DESCRIBED = 8 /* the file does not say how images become inputs */
} harp_status;

/* What the last call on this thread that failed had to say; "" before any has. Valid until the next one fails. */
HARP_API const char* harp_error(void);

/* `threads` is how many CPUs a call may use at most, 1 to 1024. The memory that a file makes these allocate is bounded
 * by its size. harp_load_memory copies what it needs: the bytes may be freed. */
HARP_API harp_status harp_load_file(const char* path, int threads, harp_network** network);
HARP_API harp_status harp_load_memory(const void* content, size_t bytes, int threads, harp_network** network);
HARP_API void harp_free(harp_network* network); /* null is fine */

/* Channels, height and width of the images that the network was traced with; networks without attention, reshapes and
 * the like take other heights and widths, too. */
HARP_API void harp_input(const harp_network* network, int shape[3]);
/* The shape of the result for one image of this size, such as 1 axis of 10 classes. */
HARP_API harp_status harp_output(const harp_network* network, int height, int width, int* axes,
                                 int shape[HARP_MOST_AXES]);

HARP_API int harp_classes(const harp_network* network); /* 0 where the file carries no names */
HARP_API const char* harp_class(const harp_network* network, int index); /* null beyond them */
HARP_API const char* harp_card(const harp_network* network); /* all that was said of it, JSON */
HARP_API const char* harp_isa(const harp_network* network);  /* AVX-512, AVX2, NEON or baseline */

/* How an 8-bit image file becomes an input: turned upright by its EXIF orientation, in these colours, its central part
 * at this size. docs/reference/format.md has the details. */
typedef struct harp_preprocessing {
  int height, width;
  int channels;      /* 3: red, green, blue; 1: grey */
  int shorter_side;  /* 0: the largest central part is scaled. Else the image, until its shorter side is this long */
  int mean_of_blocks; /* whether whole factors are the mean over blocks; otherwise, Pillow's bilinear filter */
  float scale;       /* of 8-bit values, 1/255: an input is in [0, 1]. Normalisation is part of the network */
} harp_preprocessing;
HARP_API harp_status harp_describe(const harp_network* network, harp_preprocessing* how);

typedef enum harp_order {
  HARP_FLOATS = 0, /* float, (count, channels, height, width), in [0, 1] */
  HARP_BYTES = 1   /* uint8_t, (count, height, width, channels), as decoders give them; divided by 255 here */
} harp_order;

typedef struct harp_images {
  const void* data;
  harp_order order;
  int count, height, width;
} harp_images;

/* How many bytes of memory harp_run takes for so many images of this size; `data` is not looked at. With `tune`, tries
 * several ways to compute each layer and keeps the fastest, a second at most; without, equal calls give equal bits.
 * What it finds out is kept for sixteen sizes and numbers of images. */
HARP_API harp_status harp_prepare(harp_network* network, const harp_images* images, int tune, size_t* arena_bytes);

/* Writes count results. All that changes while a network runs lies in the arena, which needs no alignment and no
 * particular content. Without harp_prepare before, the first call with a size prepares it, untuned. */
HARP_API harp_status harp_run(harp_network* network, const harp_images* images, float* results, void* arena,
                              size_t arena_bytes);

#ifdef __cplusplus
}
#endif
#endif
