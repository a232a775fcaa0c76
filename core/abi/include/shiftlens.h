/* shiftlens.h: the plugin interface of Shiftlens, ABI version 1. C99.
 *
 * A plugin is a shared library that exports one constant, `shiftlens_plugin`. It may be a generator, an encoder, a
 * predictor, a direction finder or an explainer, or several of these ("capabilities").
 *
 *   1. The host loads the library, reads `shiftlens_plugin` and checks `magic` and `abi_version`.
 *   2. `create` makes an instance of one capability, with parameters from the manifest as JSON.
 *   3. `get_interface` gives the struct of functions of that capability.
 *   4. The functions are called with the instance as the first argument.
 *   5. `destroy` ends the instance. The library is never unloaded.
 *
 * Rules for everything below, unless a function says otherwise:
 *
 * Threads    [instance] One call at a time per instance, from any thread, not always the same one. Two instances may
 *            be called at the same time. [any] Any thread, at any time. [explain] Only between the start and the end
 *            of the `explain` call that was given the host, from any thread, one call at a time.
 * Ownership  Pointers that come in are lent for the call. Nothing that a call is given may be kept, and nothing is
 *            freed by the side that did not allocate it.
 * Answers    Arrays go to buffers of the caller. A buffer whose `data` is NULL asks for the shape only: write `rank`
 *            and `shape` and answer SHIFTLENS_OK. The caller then calls again with the same arguments and room for
 *            that shape, with no other call to the instance in between; who knows the shape only after the work may
 *            do the work at the first call and keep its result for the second.
 * Errors     Every function answers a status. If it is not SHIFTLENS_OK, `error` holds a sentence for the user:
 *            what is wrong, where, what was expected and what was found.
 * Exceptions and longjmp must not leave a function.
 * Text       UTF-8 with a NUL at its end when it comes in; see shiftlens_text_t when it goes out.
 * Numbers    float is IEEE 754 binary32. Arrays are row-major, the first dimension outermost.
 * Images     [N, C, H, W], C is 1 (grey) or 3 (RGB), values in [0, 1], of any H and W.
 * Codes      [N, L, D], latent codes: L is 1 in the space W, the number of style layers in W+.
 * Scores     [N, K], one column per class, probabilities for sigmoid and softmax.
 *
 * Published structs never change. A new function comes in a new interface with a new number in its name.
 */
#ifndef SHIFTLENS_H
#define SHIFTLENS_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHIFTLENS_MAGIC UINT64_C(0x534e454c54464853) /* "SHFTLENS" in a little-endian file */
#define SHIFTLENS_ABI_VERSION 1u
#define SHIFTLENS_MAX_RANK 8

#if defined(_WIN32)
#define SHIFTLENS_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define SHIFTLENS_EXPORT __attribute__((visibility("default")))
#else
#define SHIFTLENS_EXPORT
#endif

/* Status of a call. */
#define SHIFTLENS_OK 0
#define SHIFTLENS_INVALID 1     /* a parameter or an argument is outside its domain */
#define SHIFTLENS_UNSUPPORTED 2 /* this instance cannot do it */
#define SHIFTLENS_SHAPE 3       /* an array has another shape than is needed */
#define SHIFTLENS_NOT_FINITE 4  /* NaN or infinity where a finite number is needed */
#define SHIFTLENS_TOO_SMALL 5   /* the buffer is smaller than the shape, which has been written */
#define SHIFTLENS_CANCELLED 6   /* the work was asked to stop */
#define SHIFTLENS_FAILED 7      /* the work failed */
#define SHIFTLENS_PANIC 8       /* a panic or an exception was caught */

/* Capabilities: names for `create` and `get_interface` of a plugin. */
#define SHIFTLENS_GENERATOR_V1 "shiftlens.generator/1"
#define SHIFTLENS_ENCODER_V1 "shiftlens.encoder/1"
#define SHIFTLENS_PREDICTOR_V1 "shiftlens.predictor/1"
#define SHIFTLENS_DIRECTION_V1 "shiftlens.direction/1"
#define SHIFTLENS_EXPLAINER_V1 "shiftlens.explainer/1"
/* An additional interface of a predictor's instance, for white boxes; nothing is created under this name. */
#define SHIFTLENS_GRADIENTS_V1 "shiftlens.gradients/1"
/* An additional interface of an instance that offers "shiftlens.gradients/1"; nothing is created under this name. */
#define SHIFTLENS_ACTIVATIONS_V1 "shiftlens.activations/1"

/* Names for `get_interface` of the host that an explainer is given. */
#define SHIFTLENS_HOST_PREDICT_V1 "shiftlens.host.predict/1"     /* shiftlens_predictor_v1_t, always there */
#define SHIFTLENS_HOST_GRADIENTS_V1 "shiftlens.host.gradients/1" /* shiftlens_gradients_v1_t, if f is a white box */
#define SHIFTLENS_HOST_ACTIVATIONS_V1 \
    "shiftlens.host.activations/1" /* shiftlens_activations_v1_t, if f is a white box; may answer UNSUPPORTED */
#define SHIFTLENS_HOST_LATENT_V1 "shiftlens.host.latent/1"       /* shiftlens_latent_v1_t, if the study has one */
#define SHIFTLENS_HOST_RESULTS_V1 "shiftlens.host.results/1"     /* shiftlens_results_v1_t, always there */
#define SHIFTLENS_HOST_LOG_V1 "shiftlens.host.log/1"             /* shiftlens_log_v1_t, always there */
#define SHIFTLENS_HOST_PROGRESS_V1 "shiftlens.host.progress/1"   /* shiftlens_progress_v1_t, always there */
#define SHIFTLENS_HOST_CANCEL_V1 "shiftlens.host.cancel/1"       /* shiftlens_cancel_v1_t, always there */

/* An array that is lent for one call. */
typedef struct shiftlens_array {
    const float *data; /* the product of shape[0..rank-1] values; may be NULL if that is 0 */
    uint32_t rank;     /* at most SHIFTLENS_MAX_RANK */
    uint32_t reserved; /* 0 */
    uint64_t shape[SHIFTLENS_MAX_RANK]; /* those from rank on are 0 */
} shiftlens_array_t;

/* Room for an answer, allocated by the caller. */
typedef struct shiftlens_buffer {
    float *data;       /* room for `capacity` values; NULL asks for the shape only */
    uint64_t capacity; /* in values */
    uint32_t rank;     /* written by the callee */
    uint32_t reserved; /* 0 */
    uint64_t shape[SHIFTLENS_MAX_RANK]; /* written by the callee */
} shiftlens_buffer_t;

/* Room for text, allocated by the caller. The callee writes at most `capacity` bytes and sets `length` to the full
 * length, whether it fitted or not. A text that must be whole (JSON) and did not fit is answered with
 * SHIFTLENS_TOO_SMALL, and the caller asks again with more room; an error's text is simply cut. */
typedef struct shiftlens_text {
    char *data;
    uint64_t capacity; /* in bytes */
    uint64_t length;   /* in bytes, without a NUL, which need not be written */
} shiftlens_text_t;

/* The host. Given to `create` it lives as long as the instance and today offers no interface; given to `explain` it
 * lives until that call ends. */
typedef struct shiftlens_host shiftlens_host_t;
struct shiftlens_host {
    uint32_t abi_version; /* SHIFTLENS_ABI_VERSION */
    uint32_t struct_size; /* in bytes */
    const char *name;
    const char *version;
    void *context; /* first argument of every function of the host's interfaces */
    /* [any, while the host lives] The struct of functions under `name`, or NULL if it is not offered. It lives as
     * long as the host. */
    const void *(*get_interface)(const shiftlens_host_t *host, const char *name);
};

/* The one thing that a plugin exports:  SHIFTLENS_EXPORT const shiftlens_plugin_t shiftlens_plugin = { … };  */
typedef struct shiftlens_plugin {
    uint64_t magic;       /* SHIFTLENS_MAGIC */
    uint32_t abi_version; /* SHIFTLENS_ABI_VERSION */
    uint32_t struct_size; /* sizeof(shiftlens_plugin_t) */
    const char *id;       /* unique, such as "owner.plugin"; not empty */
    const char *name;     /* for people */
    const char *version;  /* of the plugin */
    const char *const *capabilities; /* what `create` accepts; ends with NULL */
    /* [any] Makes an instance of `capability`. `params_json` is a JSON object, "{}" if the manifest has no `params`;
     * an unknown key is an error (SHIFTLENS_INVALID) whose text puts the key in backquotes. On success, writes the
     * instance, which is not NULL; on failure writes nothing. */
    int32_t (*create)(const shiftlens_host_t *host, const char *capability, const char *params_json, void **instance,
                      shiftlens_text_t *error);
    /* [instance] The struct of functions that the instance offers under `name`, or NULL. It lives as long as the
     * library. For the name given to `create` it is never NULL. */
    const void *(*get_interface)(void *instance, const char *name);
    /* [instance] Ends the instance. No call follows. */
    void (*destroy)(void *instance);
} shiftlens_plugin_t;

#ifndef __cplusplus
extern SHIFTLENS_EXPORT const shiftlens_plugin_t shiftlens_plugin;
#endif

/* G, "shiftlens.generator/1": latent codes to images. */
typedef struct shiftlens_generator_v1 {
    /* [instance] JSON object: "latent_dim" (D), "latent_layers" (L of W+; 1 if there is no W+), "channels",
     * "height", "width" (pixels), "backend" (where it runs, for people). Constant over the instance's life. */
    int32_t (*info)(void *instance, shiftlens_text_t *json, shiftlens_text_t *error);
    /* [instance] `n` codes of W, [n, 1, D], drawn as in training. The same seed gives the same codes, and the first
     * codes of a larger draw are those of a smaller one. */
    int32_t (*sample)(void *instance, uint64_t n, uint64_t seed, shiftlens_buffer_t *codes, shiftlens_text_t *error);
    /* [instance] G(w): codes [N, 1, D] or [N, L, D] to images [N, C, H, W] of the sizes in `info`. The same codes
     * give the same images. */
    int32_t (*synthesize)(void *instance, const shiftlens_array_t *codes, shiftlens_buffer_t *images,
                          shiftlens_text_t *error);
} shiftlens_generator_v1_t;

/* E, "shiftlens.encoder/1": images to latent codes. */
typedef struct shiftlens_encoder_v1 {
    /* [instance] w = E(x): images [N, C, H, W] of any size and 1 or 3 channels to codes [N, 1, D] or [N, L, D]. */
    int32_t (*encode)(void *instance, const shiftlens_array_t *images, shiftlens_buffer_t *codes,
                      shiftlens_text_t *error);
} shiftlens_encoder_v1_t;

/* f, "shiftlens.predictor/1"; and, of the host, "shiftlens.host.predict/1" [explain]. */
typedef struct shiftlens_predictor_v1 {
    /* [instance] JSON object: "classes" (list of names, K of them), "input_size" ([H, W] or null), "channels" (1 or
     * 3), "backend" (where it runs, for people). Constant over the instance's life. */
    int32_t (*info)(void *instance, shiftlens_text_t *json, shiftlens_text_t *error);
    /* [instance] Images [N, C, H, W] of any size and 1 or 3 channels to scores [N, K]. */
    int32_t (*predict)(void *instance, const shiftlens_array_t *images, shiftlens_buffer_t *scores,
                       shiftlens_text_t *error);
} shiftlens_predictor_v1_t;

/* What to differentiate. */
typedef struct shiftlens_gradient_request_v1 {
    const char *const *layers; /* `layer_count` names; "" is the default layer */
    uint64_t layer_count;
    const uint64_t *classes;  /* column of the scores: one for each image, or a single one for all */
    uint64_t class_count;     /* N or 1 */
    uint32_t layer_gradients; /* 1: also the gradients with respect to the layers */
    uint32_t input_gradient;  /* 1: also the gradient with respect to the input */
    uint32_t score;           /* 0: the logit, before a final sigmoid or softmax; 1: the value that f answers */
    uint32_t reserved;        /* 0 */
} shiftlens_gradient_request_v1_t;

/* Room for the answer. All buffers ask for their shapes, or none. */
typedef struct shiftlens_gradient_output_v1 {
    shiftlens_buffer_t scores;         /* [N]: score of the asked class, of the asked kind */
    shiftlens_buffer_t *activations;   /* `layer_count` buffers: [N, K, h, w], or as the layer is */
    shiftlens_buffer_t *gradients;     /* the same shapes, d(score)/d(activation); NULL if not asked for */
    shiftlens_buffer_t input_gradient; /* [N, C, H, W] at the network's input size, per unit of an image's value in
                                          [0, 1]; left alone if not asked for */
} shiftlens_gradient_output_v1_t;

/* "shiftlens.gradients/1"; and, of the host, "shiftlens.host.gradients/1" [explain]. An instance that has activations
 * and no gradients offers it too, and answers SHIFTLENS_UNSUPPORTED where gradients are wanted: methods that need
 * activations alone ask with `layer_gradients` and `input_gradient` 0. Without layers it answers scores alone. */
typedef struct shiftlens_gradients_v1 {
    /* [instance] JSON list from input to output, of objects: "name", "operator", "shape" (without the batch; null
     * for a size that is not known), "default" (true for the layer that CAM methods take when none is named). */
    int32_t (*layers)(void *instance, shiftlens_text_t *json, shiftlens_text_t *error);
    /* [instance] Scores, activations and gradients of images [N, C, H, W]. */
    int32_t (*gradients)(void *instance, const shiftlens_array_t *images,
                         const shiftlens_gradient_request_v1_t *request, shiftlens_gradient_output_v1_t *output,
                         shiftlens_text_t *error);
} shiftlens_gradients_v1_t;

/* "shiftlens.activations/1"; and, of the host, "shiftlens.host.activations/1" [explain]: what the network answers if a
 * layer had put out something else. */
typedef struct shiftlens_activations_v1 {
    /* [instance] Images [N, C, H, W]; the layer's name ("" is the default layer); r replacements of its activations for
     * each image, [N * r, ...], those of image i at rows i * r and after, each of the shape that "shiftlens.gradients/1"
     * answers for the layer; `classes` and `score` as in shiftlens_gradient_request_v1_t, one class for each image, or
     * a single one for all. Answers the scores of that class and kind, [N * r]. */
    int32_t (*scores)(void *instance, const shiftlens_array_t *images, const char *layer,
                      const shiftlens_array_t *activations, const uint64_t *classes, uint64_t class_count,
                      uint32_t score, shiftlens_buffer_t *scores, shiftlens_text_t *error);
} shiftlens_activations_v1_t;

/* What belongs to a direction besides its unit vector alpha. c(w) = sigmoid(intercept + slope * <w, alpha>). */
typedef struct shiftlens_direction_stats_v1 {
    float sigma;     /* standard deviation of the codes' projections on alpha, positive: the unit of lambda */
    float mean;      /* mean of the codes' projections on alpha */
    float slope;     /* of the latent classifier along alpha; 0 if there is no classifier */
    float intercept; /* of the latent classifier */
} shiftlens_direction_stats_v1_t;

/* "shiftlens.direction/1": fits a direction that makes the target class more likely. */
typedef struct shiftlens_direction_v1 {
    /* [instance] Codes [N, L, D] and values [N] (f's score of the target class; at or above `threshold` it is
     * positive) to a unit vector alpha [L, D] and its figures, which may be left alone when only the shape is
     * asked for. */
    int32_t (*find)(void *instance, const shiftlens_array_t *codes, const shiftlens_array_t *values, float threshold,
                    shiftlens_buffer_t *alpha, shiftlens_direction_stats_v1_t *stats, shiftlens_text_t *error);
} shiftlens_direction_v1_t;

/* "shiftlens.explainer/1". */
typedef struct shiftlens_explainer_v1 {
    /* [instance] Explains f's score of class `target_class` (column of the scores, called `target_name`) on images
     * [N, C, H, W]. `host` lives until the call ends; explanations go to its "shiftlens.host.results/1". `seed` is
     * for methods that draw at random. */
    int32_t (*explain)(void *instance, const shiftlens_host_t *host, const shiftlens_array_t *images,
                       uint64_t target_class, const char *target_name, uint64_t seed, shiftlens_text_t *error);
} shiftlens_explainer_v1_t;

/* "shiftlens.host.latent/1": the study's latent space. */
typedef struct shiftlens_latent_v1 {
    /* [explain] As in shiftlens_generator_v1_t. */
    int32_t (*info)(void *context, shiftlens_text_t *json, shiftlens_text_t *error);
    /* [explain] As in shiftlens_generator_v1_t. */
    int32_t (*sample)(void *context, uint64_t n, uint64_t seed, shiftlens_buffer_t *codes, shiftlens_text_t *error);
    /* [explain] As in shiftlens_generator_v1_t. */
    int32_t (*synthesize)(void *context, const shiftlens_array_t *codes, shiftlens_buffer_t *images,
                          shiftlens_text_t *error);
    /* [explain] As in shiftlens_encoder_v1_t. */
    int32_t (*encode)(void *context, const shiftlens_array_t *images, shiftlens_buffer_t *codes,
                      shiftlens_text_t *error);
    /* [explain] The study's direction: alpha [L, D] and its figures. */
    int32_t (*direction)(void *context, shiftlens_buffer_t *alpha, shiftlens_direction_stats_v1_t *stats,
                         shiftlens_text_t *error);
} shiftlens_latent_v1_t;

/* How one image would have to change: S pictures along the direction. */
typedef struct shiftlens_series_v1 {
    shiftlens_array_t lambdas; /* [S], in units of sigma, ascending */
    shiftlens_array_t images;  /* [S, C, H, W] */
    shiftlens_array_t scores;  /* [S], f's score of the target class on each */
    shiftlens_array_t code;    /* [L, D] or [L * D], the code w of the image */
    uint64_t origin;           /* index of lambda = 0: the reconstruction */
    float latent_score;        /* the latent classifier's c(w); NaN if there is none */
    uint32_t reserved;         /* 0 */
} shiftlens_series_v1_t;

/* "shiftlens.host.results/1": where an explainer puts its explanations, any number for each image. The host copies
 * what it is given. `image` is the index in the batch; `title` says the method, such as "Grad-CAM"; `notes_json` is a
 * JSON list of pairs worth printing, [["layer", "conv8"], ["alpha", "0.5"]], or NULL. */
typedef struct shiftlens_results_v1 {
    /* [explain] A relevance map [H, W] of any size, raw and signed. */
    int32_t (*heatmap)(void *context, uint64_t image, const char *title, const shiftlens_array_t *map,
                       const char *notes_json, shiftlens_text_t *error);
    /* [explain] A series of shifted images. */
    int32_t (*shift)(void *context, uint64_t image, const char *title, const shiftlens_series_v1_t *series,
                     const char *notes_json, shiftlens_text_t *error);
} shiftlens_results_v1_t;

/* "shiftlens.host.log/1" */
typedef struct shiftlens_log_v1 {
    /* [explain, and several threads at once] One line for the user; level 0 debug, 1 info, 2 warning. */
    void (*log)(void *context, int32_t level, const char *message);
} shiftlens_log_v1_t;

/* "shiftlens.host.progress/1" */
typedef struct shiftlens_progress_v1 {
    /* [explain, and several threads at once] `done` of `total` units of the step called `what`. */
    void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);
} shiftlens_progress_v1_t;

/* "shiftlens.host.cancel/1" */
typedef struct shiftlens_cancel_v1 {
    /* [explain, and several threads at once] 1 once the work should stop, else 0. Long work asks between batches and
     * then answers SHIFTLENS_CANCELLED. */
    int32_t (*cancelled)(void *context);
} shiftlens_cancel_v1_t;

/* Helpers for plugin authors. */

/* Writes `string` to `text`. Answers SHIFTLENS_TOO_SMALL if it was cut. */
static inline int32_t shiftlens_write(shiftlens_text_t *text, const char *string) {
    uint64_t length = (uint64_t)strlen(string);
    uint64_t n = text->data == NULL ? 0 : length < text->capacity ? length : text->capacity;
    if (n > 0) memcpy(text->data, string, (size_t)n);
    text->length = length;
    return n == length ? SHIFTLENS_OK : SHIFTLENS_TOO_SMALL;
}

/* Writes an error's text and answers `status`. */
static inline int32_t shiftlens_fail(shiftlens_text_t *error, int32_t status, const char *message) {
    (void)shiftlens_write(error, message);
    return status;
}

/* Writes an answer's shape. Go on to write values only if this is SHIFTLENS_OK and `buffer->data` is not NULL. */
static inline int32_t shiftlens_set_shape(shiftlens_buffer_t *buffer, uint32_t rank, const uint64_t *shape) {
    uint64_t values = 1;
    uint32_t i;
    memset(buffer->shape, 0, sizeof buffer->shape);
    if (rank > SHIFTLENS_MAX_RANK) return SHIFTLENS_SHAPE;
    buffer->rank = rank;
    for (i = 0; i < rank; i++) {
        buffer->shape[i] = shape[i];
        values *= shape[i];
    }
    return buffer->data != NULL && buffer->capacity < values ? SHIFTLENS_TOO_SMALL : SHIFTLENS_OK;
}

#ifdef __cplusplus
}
#endif

#endif
