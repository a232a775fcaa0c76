/* A white-box predictor in C: does the light fall on the left or on the right half of a picture?
 *
 * A grey picture of 8 x 8 pixels passes one layer, "halves", [N, 2, 8, 8]: channel 0 is the picture with its right half
 * black, channel 1 with its left half black. The logit of "left" is the mean of channel 0 less the mean of channel 1,
 * times GAIN; that of "right" is its negative; the scores are the two sigmoids.
 *
 * Besides "shiftlens.predictor/1" the instance offers "shiftlens.gradients/1", so that methods such as Grad-CAM can
 * explain it. It does not offer "shiftlens.activations/1", which only Ablation-CAM needs. The picture's side is fixed, so
 * that the gradients fit on a page; pictures of other sizes are refused.
 */
#include "shiftlens.h"

#include <math.h>

#define SIDE 8
#define PIXELS (SIDE * SIDE)
#define GAIN 20.0

static int here;

static int is_left(uint64_t pixel) { return pixel % SIDE < SIDE / 2; }

/* 1 for the class "left", -1 for "right". */
static double sign(uint64_t class_index) { return class_index == 0 ? 1.0 : -1.0; }

/* The logit of "left". */
static double logit(const float *picture) {
    double sum = 0.0;
    uint64_t i;
    for (i = 0; i < PIXELS; i++) sum += is_left(i) ? picture[i] : -picture[i];
    return GAIN * sum / PIXELS;
}

static double sigmoid(double v) { return 1.0 / (1.0 + exp(-v)); }

static int32_t check(const shiftlens_array_t *images, shiftlens_text_t *error) {
    if (images->rank == 4 && images->shape[1] == 1 && images->shape[2] == SIDE && images->shape[3] == SIDE)
        return SHIFTLENS_OK;
    return shiftlens_fail(error, SHIFTLENS_SHAPE, "images: expected grey pictures, [N, 1, 8, 8]");
}

static int32_t info(void *instance, shiftlens_text_t *json, shiftlens_text_t *error) {
    (void)instance, (void)error;
    return shiftlens_write(json, "{\"classes\": [\"left\", \"right\"], \"input_size\": [8, 8], \"channels\": 1, "
                                 "\"backend\": \"C\"}");
}

static int32_t predict(void *instance, const shiftlens_array_t *images, shiftlens_buffer_t *scores,
                       shiftlens_text_t *error) {
    uint64_t i, shape[2];
    int32_t status = check(images, error);
    (void)instance;
    if (status != SHIFTLENS_OK) return status;
    shape[0] = images->shape[0];
    shape[1] = 2;
    status = shiftlens_set_shape(scores, 2, shape);
    if (status != SHIFTLENS_OK || scores->data == NULL) return status;
    for (i = 0; i < shape[0]; i++) {
        double left = logit(images->data + i * PIXELS);
        scores->data[2 * i] = (float)sigmoid(left);
        scores->data[2 * i + 1] = (float)sigmoid(-left);
    }
    return SHIFTLENS_OK;
}

static int32_t layers(void *instance, shiftlens_text_t *json, shiftlens_text_t *error) {
    (void)instance, (void)error;
    return shiftlens_write(json, "[{\"name\": \"halves\", \"operator\": \"Mask\", \"shape\": [2, 8, 8], "
                                 "\"default\": true}]");
}

/* The class asked for on picture `i`. */
static uint64_t class_of(const shiftlens_gradient_request_v1_t *request, uint64_t i) {
    return request->classes[request->class_count == 1 ? 0 : i];
}

/* d(score)/d(logit of "left"), and the score. */
static double outer(const shiftlens_gradient_request_v1_t *request, const float *picture, uint64_t i, float *score) {
    double s = sign(class_of(request, i)), value = s * logit(picture), p = sigmoid(value);
    if (score != NULL) *score = (float)(request->score == 0 ? value : p);
    return request->score == 0 ? s : s * p * (1.0 - p);
}

/* Writes layer "halves", or the score's gradient with respect to it. */
static int32_t write_layer(const shiftlens_array_t *images, const shiftlens_gradient_request_v1_t *request, int gradient,
                           shiftlens_buffer_t *out) {
    uint64_t i, channel, pixel, shape[4];
    int32_t status;
    shape[0] = images->shape[0];
    shape[1] = 2;
    shape[2] = shape[3] = SIDE;
    status = shiftlens_set_shape(out, 4, shape);
    if (status != SHIFTLENS_OK || out->data == NULL) return status;
    for (i = 0; i < shape[0]; i++) {
        const float *picture = images->data + i * PIXELS;
        double slope = outer(request, picture, i, NULL) * GAIN / PIXELS;
        for (channel = 0; channel < 2; channel++) {
            float *to = out->data + (2 * i + channel) * PIXELS;
            for (pixel = 0; pixel < PIXELS; pixel++) {
                float kept = is_left(pixel) == (channel == 0) ? picture[pixel] : 0.0f;
                to[pixel] = gradient ? (float)(channel == 0 ? slope : -slope) : kept;
            }
        }
    }
    return SHIFTLENS_OK;
}

static int32_t gradients(void *instance, const shiftlens_array_t *images, const shiftlens_gradient_request_v1_t *request,
                         shiftlens_gradient_output_v1_t *output, shiftlens_text_t *error) {
    uint64_t i, pixel, l, n;
    int32_t status = check(images, error);
    (void)instance;
    if (status != SHIFTLENS_OK) return status;
    n = images->shape[0];
    if (request->class_count != 1 && request->class_count != n)
        return shiftlens_fail(error, SHIFTLENS_INVALID, "classes: expected one for all pictures, or one for each");
    for (i = 0; i < request->class_count; i++)
        if (request->classes[i] > 1) return shiftlens_fail(error, SHIFTLENS_INVALID, "classes: expected 0 or 1");
    for (l = 0; l < request->layer_count; l++)
        if (request->layers[l][0] != '\0' && strcmp(request->layers[l], "halves") != 0)
            return shiftlens_fail(error, SHIFTLENS_INVALID, "layers: the only layer is `halves`");

    status = shiftlens_set_shape(&output->scores, 1, &n);
    if (status != SHIFTLENS_OK) return status;
    if (output->scores.data != NULL)
        for (i = 0; i < n; i++) (void)outer(request, images->data + i * PIXELS, i, &output->scores.data[i]);
    for (l = 0; l < request->layer_count; l++) {
        status = write_layer(images, request, 0, &output->activations[l]);
        if (status == SHIFTLENS_OK && request->layer_gradients)
            status = write_layer(images, request, 1, &output->gradients[l]);
        if (status != SHIFTLENS_OK) return status;
    }
    if (!request->input_gradient) return SHIFTLENS_OK;
    status = shiftlens_set_shape(&output->input_gradient, 4, images->shape);
    if (status != SHIFTLENS_OK || output->input_gradient.data == NULL) return status;
    for (i = 0; i < n; i++) {
        double slope = outer(request, images->data + i * PIXELS, i, NULL) * GAIN / PIXELS;
        for (pixel = 0; pixel < PIXELS; pixel++)
            output->input_gradient.data[i * PIXELS + pixel] = (float)(is_left(pixel) ? slope : -slope);
    }
    return SHIFTLENS_OK;
}

static const shiftlens_predictor_v1_t predictor_table = {info, predict};
static const shiftlens_gradients_v1_t gradients_table = {layers, gradients};

static int32_t create(const shiftlens_host_t *host, const char *capability, const char *params_json, void **instance,
                      shiftlens_text_t *error) {
    (void)host, (void)capability;
    if (strcmp(params_json, "{}") != 0)
        return shiftlens_fail(error, SHIFTLENS_INVALID, "params: this predictor has none");
    /* It has no state, so that any address will do. */
    *instance = &here;
    return SHIFTLENS_OK;
}

static const void *get_interface(void *instance, const char *name) {
    (void)instance;
    if (strcmp(name, SHIFTLENS_PREDICTOR_V1) == 0) return &predictor_table;
    if (strcmp(name, SHIFTLENS_GRADIENTS_V1) == 0) return &gradients_table;
    return NULL;
}

static void destroy(void *instance) { (void)instance; }

static const char *const capabilities[] = {SHIFTLENS_PREDICTOR_V1, NULL};

SHIFTLENS_EXPORT const shiftlens_plugin_t shiftlens_plugin = {
    SHIFTLENS_MAGIC, SHIFTLENS_ABI_VERSION, (uint32_t)sizeof(shiftlens_plugin_t),
    "example.two-masks", "Left or right", "0.1.0", capabilities, create, get_interface, destroy,
};
