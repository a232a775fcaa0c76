/* A predictor in C: is the joint space of a knee radiograph phantom narrow or wide?
 *
 * It measures the dark gap between femur and tibia in units of the image's height and answers the classes "narrow"
 * and "wide":
 *
 *     p(wide) = 1 / (1 + exp(-slope * (gap - threshold)))
 *
 * Parameters (JSON): "threshold", the gap at which the two are equally likely, in image heights; "slope", per image
 * height, positive. The defaults suit the pictures of plugins/phantom, whose mean gap is 0.0547.
 *
 * This is also an example of a plugin without any library but the C standard's: see README.md beside it.
 */
#include "shiftlens.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Pictures are measured on a grid of SIDE x SIDE points, whatever their size. */
#define SIDE 128
#define THRESHOLD 0.0547
#define SLOPE 213.0

/* The columns under the middle of each condyle: 30 to 44 and 83 to 97. */
#define COLUMNS 30

typedef struct joint_space {
    double threshold;
    double slope;
} joint_space_t;

/* ---- parameters ---- */

static const char *skip_blanks(const char *p) {
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') p++;
    return p;
}

/* Reads {"threshold": number, "slope": number}, both optional. Answers a status and an error's text. */
static int32_t read_params(const char *json, joint_space_t *out, shiftlens_text_t *error) {
    char message[256];
    const char *p = skip_blanks(json);
    if (*p++ != '{') return shiftlens_fail(error, SHIFTLENS_INVALID, "params: expected a JSON object");
    p = skip_blanks(p);
    if (*p == '}') return SHIFTLENS_OK;
    for (;;) {
        const char *key = skip_blanks(p);
        const char *key_end;
        char *number_end;
        double *value;
        int length;
        if (*key != '"') return shiftlens_fail(error, SHIFTLENS_INVALID, "params: expected a key in double quotes");
        key++;
        key_end = strchr(key, '"');
        if (key_end == NULL) return shiftlens_fail(error, SHIFTLENS_INVALID, "params: a key does not end");
        length = key_end - key > 60 ? 60 : (int)(key_end - key);
        if (length == 9 && strncmp(key, "threshold", 9) == 0) {
            value = &out->threshold;
        } else if (length == 5 && strncmp(key, "slope", 5) == 0) {
            value = &out->slope;
        } else {
            snprintf(message, sizeof message, "params: unknown field `%.*s`, expected `threshold` or `slope`", length,
                     key);
            return shiftlens_fail(error, SHIFTLENS_INVALID, message);
        }
        p = skip_blanks(key_end + 1);
        if (*p != ':') return shiftlens_fail(error, SHIFTLENS_INVALID, "params: expected `:` after a key");
        p = skip_blanks(p + 1);
        *value = strtod(p, &number_end);
        if (number_end == p || !isfinite(*value)) {
            snprintf(message, sizeof message, "params: `%.*s` is no number", length, key);
            return shiftlens_fail(error, SHIFTLENS_INVALID, message);
        }
        p = skip_blanks(number_end);
        if (*p == '}') break;
        if (*p++ != ',') return shiftlens_fail(error, SHIFTLENS_INVALID, "params: expected `,` or `}`");
    }
    if (out->slope <= 0.0) {
        return shiftlens_fail(error, SHIFTLENS_INVALID, "params: `slope` must be positive");
    }
    return SHIFTLENS_OK;
}

/* ---- the measurement ---- */

/* The grey value of an image [channels, height, width] at a pixel; RGB by ITU-R BT.601. */
static double grey(const float *image, size_t channels, size_t plane, size_t pixel) {
    if (channels == 1) return image[pixel];
    return 0.299 * image[pixel] + 0.587 * image[plane + pixel] + 0.114 * image[2 * plane + pixel];
}

/* Where grid point `i` of SIDE lies in `size` pixels: the pixel before it and the share of the next one. */
static size_t locate(size_t i, size_t size, double *share) {
    double x = ((double)i + 0.5) * (double)size / SIDE - 0.5;
    size_t pixel;
    if (x <= 0.0) x = 0.0;
    if (x >= (double)(size - 1)) x = (double)(size - 1);
    pixel = (size_t)x;
    if (pixel > 0 && pixel == size - 1) pixel--;
    *share = x - (double)pixel;
    return pixel;
}

/* Resamples an image to SIDE x SIDE, bilinearly with half-pixel centres. */
static void resample(const float *image, size_t channels, size_t height, size_t width, double *grid) {
    size_t plane = height * width, row, column;
    for (row = 0; row < SIDE; row++) {
        double sy;
        size_t y = locate(row, height, &sy);
        size_t below = y + 1 < height ? y + 1 : y;
        for (column = 0; column < SIDE; column++) {
            double sx;
            size_t x = locate(column, width, &sx);
            size_t right = x + 1 < width ? x + 1 : x;
            double upper = (1.0 - sx) * grey(image, channels, plane, y * width + x) +
                           sx * grey(image, channels, plane, y * width + right);
            double lower = (1.0 - sx) * grey(image, channels, plane, below * width + x) +
                           sx * grey(image, channels, plane, below * width + right);
            grid[row * SIDE + column] = (1.0 - sy) * upper + sy * lower;
        }
    }
}

/* How far beyond `dark`, towards `bright`, the level is crossed, in grid points; 0 if the run ended unlit. */
static double crossing(double bright, double dark, double level) {
    return bright > level && bright > dark ? (bright - level) / (bright - dark) : 0.0;
}

/* Mean width of the gap in image heights. Column by column, the run of points darker than half way between bone and
 * gap, with both ends interpolated: a relative level, so that neither exposure nor bone density matters. */
static double gap_width(const double *grid) {
    size_t columns[COLUMNS], i, row;
    double bone = 0.0, dark = 0.0, level, sum = 0.0;
    for (i = 0; i < COLUMNS; i++) columns[i] = i < 15 ? 30 + i : 83 + i - 15;
    for (i = 0; i < COLUMNS; i++) {
        double darkest = grid[54 * SIDE + columns[i]], bright = 0.0;
        for (row = 44; row <= 51; row++) bright += grid[row * SIDE + columns[i]];
        for (row = 84; row <= 91; row++) bright += grid[row * SIDE + columns[i]];
        for (row = 55; row <= 81; row++) {
            if (grid[row * SIDE + columns[i]] < darkest) darkest = grid[row * SIDE + columns[i]];
        }
        bone += bright / 16.0;
        dark += darkest;
    }
    level = 0.5 * (bone + dark) / COLUMNS;
    for (i = 0; i < COLUMNS; i++) {
        const double *v = grid + columns[i]; /* v[row * SIDE] walks down the column */
        size_t low = 54, top, bottom;
        for (row = 55; row <= 81; row++) {
            if (v[row * SIDE] < v[low * SIDE]) low = row;
        }
        if (v[low * SIDE] >= level) continue; /* no gap to be seen here */
        for (top = low; top > 40 && v[top * SIDE] < level; top--) {}
        for (bottom = low; bottom < 95 && v[bottom * SIDE] < level; bottom++) {}
        sum += (double)bottom - crossing(v[bottom * SIDE], v[(bottom - 1) * SIDE], level) -
               ((double)top + crossing(v[top * SIDE], v[(top + 1) * SIDE], level));
    }
    return sum / COLUMNS / SIDE;
}

/* ---- the interface ---- */

static int32_t info(void *instance, shiftlens_text_t *json, shiftlens_text_t *error) {
    (void)instance;
    (void)error;
    return shiftlens_write(json, "{\"classes\": [\"narrow\", \"wide\"], \"input_size\": null, \"channels\": 1,"
                                 " \"backend\": \"plugin example.joint-space 0.1.0 (C)\"}");
}

static int32_t predict(void *instance, const shiftlens_array_t *images, shiftlens_buffer_t *scores,
                       shiftlens_text_t *error) {
    const joint_space_t *self = instance;
    uint64_t shape[2];
    size_t i, channels, height, width;
    double *grid;
    int32_t status;
    if (images->rank != 4 || (images->shape[1] != 1 && images->shape[1] != 3) || images->shape[2] == 0 ||
        images->shape[3] == 0) {
        return shiftlens_fail(error, SHIFTLENS_SHAPE, "expected images [N, 1 or 3, H > 0, W > 0]");
    }
    shape[0] = images->shape[0];
    shape[1] = 2;
    status = shiftlens_set_shape(scores, 2, shape);
    if (status != SHIFTLENS_OK || scores->data == NULL) return status;
    channels = (size_t)images->shape[1];
    height = (size_t)images->shape[2];
    width = (size_t)images->shape[3];
    grid = malloc(sizeof *grid * SIDE * SIDE);
    if (grid == NULL) return shiftlens_fail(error, SHIFTLENS_FAILED, "out of memory");
    for (i = 0; i < (size_t)shape[0]; i++) {
        double wide;
        resample(images->data + i * channels * height * width, channels, height, width, grid);
        wide = 1.0 / (1.0 + exp(-self->slope * (gap_width(grid) - self->threshold)));
        scores->data[2 * i] = (float)(1.0 - wide);
        scores->data[2 * i + 1] = (float)wide;
    }
    free(grid);
    return SHIFTLENS_OK;
}

static const shiftlens_predictor_v1_t predictor = {info, predict};

static int32_t create(const shiftlens_host_t *host, const char *capability, const char *params_json, void **instance,
                      shiftlens_text_t *error) {
    joint_space_t made = {THRESHOLD, SLOPE};
    joint_space_t *kept;
    int32_t status;
    (void)host;
    if (strcmp(capability, SHIFTLENS_PREDICTOR_V1) != 0) {
        return shiftlens_fail(error, SHIFTLENS_UNSUPPORTED, "only " SHIFTLENS_PREDICTOR_V1 " is offered");
    }
    status = read_params(params_json, &made, error);
    if (status != SHIFTLENS_OK) return status;
    kept = malloc(sizeof *kept);
    if (kept == NULL) return shiftlens_fail(error, SHIFTLENS_FAILED, "out of memory");
    *kept = made;
    *instance = kept;
    return SHIFTLENS_OK;
}

static const void *get_interface(void *instance, const char *name) {
    (void)instance;
    return strcmp(name, SHIFTLENS_PREDICTOR_V1) == 0 ? &predictor : NULL;
}

static void destroy(void *instance) { free(instance); }

static const char *const capabilities[] = {SHIFTLENS_PREDICTOR_V1, NULL};

SHIFTLENS_EXPORT const shiftlens_plugin_t shiftlens_plugin = {
    SHIFTLENS_MAGIC,
    SHIFTLENS_ABI_VERSION,
    sizeof(shiftlens_plugin_t),
    "example.joint-space",
    "Joint space of a knee phantom",
    "0.1.0",
    capabilities,
    create,
    get_interface,
    destroy,
};
