/*
 * sae4j: encode, decode, project and pursue with sparse autoencoders. The C API, and the one file that JavaCPP parses.
 *
 * Shapes: all arrays are row-major and contiguous. n rows; d_in, d_out model dimensions; d_sae features.
 *   w_enc [d_sae, d_in]   row j is the encoder direction w_j of feature j
 *   w_dec [d_sae, d_out]  row j is the decoder direction d_j of feature j
 *   w_skip [d_out, d_in]  of transcoders with a skip connection: x_hat also holds w_skip x
 * Numbers: every result is defined to the bit. Dot(x, w) is 128 partial sums by fused multiply-add (element i joins sum
 *   i mod 128, i ascending), halved seven times (s[i] += s[i + 64], 32, 16, 8, 4, 2, 1), plus +0.0f.
 * Errors: a function that can fail returns a status; sae_last_error() then holds one line that says what, expected and got.
 *   Nothing prints, aborts or exits. x, v and weights must be finite.
 * Threads: a model may be used by any number of threads; a codes object by one at a time, or, once on the host, by any number that
 *   read it. Every call is synchronous.
 */
#ifndef SAE4J_H
#define SAE4J_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SAE_API __attribute__((visibility("default")))
#else
#define SAE_API
#endif

typedef enum sae_status {
  SAE_OK = 0,
  SAE_INVALID_ARGUMENT = 1,
  SAE_OUT_OF_MEMORY = 2,
  SAE_UNAVAILABLE = 3, /* a kernel, screen or number of threads that was asked for cannot be had here */
  SAE_INTERNAL = 4
} sae_status;

/* Which row of a feature a direction is read against: its decoder row d_j or its encoder row w_j. */
typedef enum sae_readout { SAE_READOUT_DECODER = 0, SAE_READOUT_ENCODER = 1 } sae_readout;

/* How pursue finds a sparse decomposition: orthogonal matching pursuit, gradient pursuit, matching pursuit, l1. */
typedef enum sae_method { SAE_METHOD_OMP = 0, SAE_METHOD_GRADIENT = 1, SAE_METHOD_MATCHING = 2, SAE_METHOD_L1 = 3 } sae_method;

/* Why pursue stopped in a row. */
typedef enum sae_stop {
  SAE_STOP_NONE = 0,      /* the codes are not pursue's, or have no such row */
  SAE_STOP_ATOMS = 1,     /* all steps that were allowed are taken */
  SAE_STOP_RESIDUAL = 2,  /* the residual is small enough; at once for v = 0 */
  SAE_STOP_GAIN = 3,      /* the next step would have gained too little, and was not taken */
  SAE_STOP_EXHAUSTED = 4, /* no atom is correlated with the residual (non_negative: positively) as far as float32 can tell */
  SAE_STOP_CONVERGED = 5  /* l1: the duality gap is closed */
} sae_stop;

/* Which of a row's features are active. The gate is p = Dot(x, w_j) > threshold[j]; v = fma(scale[j], p, offset[j]) is the value. */
typedef enum sae_selection {
  SAE_SELECT_GATE = 0,       /* all that pass the gate with v > 0: ReLU, JumpReLU, Gated, BatchTopK and Matryoshka at inference */
  SAE_SELECT_TOP = 1,        /* of those that pass the gate with v > 0, the k largest v: TopK that ends in a ReLU */
  SAE_SELECT_TOP_SIGNED = 2, /* of those that pass the gate, the k largest v, negative ones too, but no zero */
  SAE_SELECT_TOP_ABS = 3     /* of those that pass the gate, the k largest |v|, but no zero */
} sae_selection;             /* ties go to the lower index */

/* What encode does to a row of x first; decode undoes it with the row's scale and shift, which the codes carry. Statistics in double,
 * i ascending, each of x', scale and shift rounded to float32 once. */
typedef enum sae_normalization {
  SAE_NORMALIZE_NONE = 0,
  SAE_NORMALIZE_LAYER = 1,   /* shift = mean(x), scale = std(x) with d - 1 (so d_in >= 2); x' = (x - shift) / (scale + 1e-5).
                                An error naming the row where scale overflows float32 */
  SAE_NORMALIZE_CONSTANT = 2 /* shift = 0, scale = ||x|| / sqrt(d_in); x' = x / scale, and 0 where x = 0 */
} sae_normalization;

/* The weights of an SAE, borrowed from the caller. */
typedef struct sae_weights {
  int64_t d_in, d_out, d_sae;
  const float* w_enc;     /* [d_sae, d_in] */
  const float* w_dec;     /* [d_sae, d_out] */
  const float* b_dec;     /* [d_out] */
  const float* w_skip;    /* [d_out, d_in], or NULL */
  const float* threshold; /* [d_sae], may be +-infinity */
  const float* scale;     /* [d_sae], positive */
  const float* offset;    /* [d_sae] */
  sae_selection selection;
  int64_t k;              /* of the selections other than GATE: 1 to d_sae */
  sae_normalization normalization;
} sae_weights;

typedef struct sae_model sae_model; /* immutable; the weights of one SAE on one device */
typedef struct sae_codes sae_codes; /* CSR: row_offsets [n + 1], indices [nnz] ascending within a row, values [nnz] */

SAE_API const char* sae_version(void);

/* This thread's last failure; "" before the first. Valid until the thread's next failure. */
SAE_API const char* sae_last_error(void);

/* One line on the CPU backend: the kernels this machine can run (best first), those of the int8 screen, OpenBLAS's version,
 * core and thread count (its host's business). Valid until the thread's next call. */
SAE_API const char* sae_cpu_describe(void);

/* The screens of the CPU backend. A screen is probed before its first use; the reason says why one was dropped, "" if it serves. */
SAE_API int32_t sae_cpu_screen_count(void);
SAE_API const char* sae_cpu_screen_name(int32_t screen);
SAE_API const char* sae_cpu_screen_reason(int32_t screen);
SAE_API const char* sae_cpu_default_screen(void); /* of large batches */

/* count floats, zeroed, aligned to 64 bytes, in large pages where the system has them; NULL if there is no memory. */
SAE_API float* sae_alloc(int64_t count);
SAE_API void sae_free(float* array);

/*
 * A model on the CPU. The arrays are borrowed: they must stay in place, unchanged, until sae_close.
 * threads: how many threads this model's calls use, the caller included; at least 1. SAE_UNAVAILABLE, with how many could be had, if
 *          the system refuses one of them.
 * screen:  "canonical", "sgemm" or "int8" to force one, NULL to choose. No choice changes a bit of any result.
 *          int8 keeps a copy of w_enc, and from the first top-k projection of w_dec, in a quarter of its bytes; forcing another avoids it.
 *          It serves up to 65,536 dimensions. Batches on which it would name too many are screened plainly, forced or not.
 * kernel:  "avx512", "avx2" or "portable" to force one form of Dot, NULL for the best. The same holds.
 */
SAE_API sae_status sae_cpu_open(const sae_weights* weights, int32_t threads, const char* screen, const char* kernel,
                                sae_model** model);

/*
 * CUDA. The backend is a library of its own (libsae4j_cuda.so), loaded on request and never unloaded; it needs a driver, and cuBLAS
 * only where that is asked for. Nothing here touches CUDA before sae_cuda_load.
 * sae_cuda_load: SAE_UNAVAILABLE if the library cannot be loaded. A second call is a no-op, whatever its path.
 * sae_cuda_reason: why this device cannot serve, in one sentence; "" if it can. Valid until the thread's next call.
 * sae_cuda_describe: one line on the device, its driver and cuBLAS; "" where it cannot serve.
 */
SAE_API sae_status sae_cuda_load(const char* library);
SAE_API const char* sae_cuda_reason(int32_t device);
SAE_API const char* sae_cuda_describe(int32_t device);

/* The screens of the CUDA backend, as those of the CPU. The default is what was measured to be fastest on such a device, and
 * "canonical" (no screen) where nothing was. */
SAE_API int32_t sae_cuda_screen_count(void);
SAE_API const char* sae_cuda_screen_name(int32_t screen);
SAE_API const char* sae_cuda_screen_reason(int32_t device, int32_t screen);
SAE_API const char* sae_cuda_default_screen(int32_t device);

/*
 * A model on a CUDA device. As sae_cpu_open, but for these:
 * The arrays are copied to the device; w_dec must stay in place, unchanged, until sae_close (pursue's solver reads it).
 * SAE_OUT_OF_MEMORY names the bytes needed and those free.
 * x, v, x_hat and coefficients of its calls may be device pointers of this device; rows of d % 128 == 0 floats, 16-byte aligned,
 *   are used where they lie.
 * threads: host threads for pursue's solver and for copies from memory that is not pinned.
 * screen:  the name of one to force, NULL for the default.
 * stream:  a cudaStream_t of the caller, or NULL: every call first waits for the work that is in it. Calls are synchronous: what
 *   they write is there when they return.
 */
SAE_API sae_status sae_cuda_open(int32_t device, const sae_weights* weights, int32_t threads, const char* screen, void* stream,
                                 sae_model** model);

/* No call may be running on the model. NULL is allowed. */
SAE_API void sae_close(sae_model* model);

/* "cpu, kernel avx512, 2 threads, OpenBLAS 0.3.31 SkylakeX". Lives as long as the model. */
SAE_API const char* sae_describe(const sae_model* model);

/* The name of the screen that encode uses for n rows. */
SAE_API const char* sae_screen_for(const sae_model* model, int64_t n);

/* Bytes of host memory that the screen's copies of the weights take now. */
SAE_API int64_t sae_screen_bytes(const sae_model* model);

SAE_API sae_status sae_codes_create(sae_codes** codes);
SAE_API void sae_codes_destroy(sae_codes* codes);

/* Replaces the content by a copy. Offsets must start at 0 and not decrease, indices be in [0, d_sae) and strictly ascending
 * within a row, values be finite; scale and shift [n], finite, or both NULL. On failure the codes hold no rows. */
SAE_API sae_status sae_codes_assign(sae_codes* codes, int64_t n, int64_t d_sae, const int64_t* row_offsets,
                                    const int32_t* indices, const float* values, const float* scale, const float* shift);

/* Codes that a CUDA model wrote stay on the device, where its decode finds them. This brings their arrays to the host; codes that are
 * there already are left as they are. */
SAE_API sae_status sae_codes_to_host(sae_codes* codes);

/* Sizes, and the arrays themselves: valid until the codes are next written or destroyed. An array that is only on a device is NULL,
 * and sae_last_error() says so. */
SAE_API int64_t sae_codes_rows(const sae_codes* codes);
SAE_API int64_t sae_codes_features(const sae_codes* codes);
SAE_API int64_t sae_codes_nnz(const sae_codes* codes);
SAE_API const int64_t* sae_codes_row_offsets(const sae_codes* codes);
SAE_API const int32_t* sae_codes_indices(const sae_codes* codes);
SAE_API const float* sae_codes_values(const sae_codes* codes);

/* [n], what a model that normalises took out of each row; NULL, without an error, where none did. On the host as the other arrays. */
SAE_API int32_t sae_codes_normalized(const sae_codes* codes);
SAE_API const float* sae_codes_scale(const sae_codes* codes);
SAE_API const float* sae_codes_shift(const sae_codes* codes);

/* Why pursue stopped in this row. */
SAE_API sae_stop sae_codes_stop(const sae_codes* codes, int64_t row);

/* x [n, d_in] -> codes [n, d_sae]. On failure the codes hold no rows. */
SAE_API sae_status sae_encode(const sae_model* model, const float* x, int64_t n, sae_codes* codes);

/*
 * codes [n, d_sae] -> x_hat [n, d_out] = sum_j f_j d_j, features ascending by fused multiply-add from +0, then + b_dec, then
 * + Dot(x, row i of w_skip), then fma(scale, ., shift) where the model normalises.
 * With direction != 0 without b_dec, and times scale in place of the fma (a difference of activations must be decoded so).
 * x: [n, d_in], what was encoded; NULL unless the model has w_skip. Codes for a model that normalises must carry scale and shift, and
 * others must not. The codes of a direction (project, pursue) are of no x: with direction != 0 x may be NULL, for no such term, and
 * scale and shift absent, for scale 1.
 * Codes that are only on another device than the model's are brought to the host first.
 */
SAE_API sae_status sae_decode(const sae_model* model, sae_codes* codes, const float* x, int32_t direction, float* x_hat);

/*
 * Signed projection of v [n, d]: coefficient_j = <v, d_j> (d = d_out), divided by ||d_j|| if unit != 0 (0 where ||d_j|| = 0),
 * or <v, w_j> (d = d_in; unit must be 0). No bias, no threshold, sign kept.
 * dense: coefficients [n, d_sae], within the float32 bound of the exact value: its bits may depend on n.
 * top:   codes [n, d_sae] with the k largest |coefficient| of each row, or, per_sign != 0, the k most positive and the k most
 *        negative; ties go to the lower index, zeros are never returned. Defined to the bit.
 */
SAE_API sae_status sae_project_dense(const sae_model* model, const float* v, int64_t n, sae_readout readout, int32_t unit,
                                     float* coefficients);
SAE_API sae_status sae_project_top(const sae_model* model, const float* v, int64_t n, sae_readout readout, int32_t unit,
                                   int64_t k, int32_t per_sign, sae_codes* codes);

/*
 * Sparse signed decomposition over the decoder rows: v [n, d_out] -> codes [n, d_sae], v ~ sum_j a_j d_j; b_dec plays no part.
 * Each step asks for the atom with the largest |<r, d_j>| / ||d_j|| of the residual r = v - sum_j a_j d_j (r rounded to float32,
 * canonical dot and division, ties to the lower index, rows of norm 0 never), then updates a in double:
 *   OMP       a = the least-squares fit of v by all atoms chosen so far.
 *   GRADIENT  a += (<c, r> / <c, c>) g, g_j = <r, d_j> on the atoms chosen so far, c = sum_j g_j d_j (Blumensath & Davies 2008);
 *             no least-squares fit at the end.
 *   MATCHING  a_j += <r, d_j> / ||d_j||^2 for the chosen atom alone (Mallat & Zhang 1993).
 *   L1        a = the exact minimum of |v - sum_j a_j d_j|^2 / 2 + lambda sum_j ||d_j|| |a_j| over the atoms chosen so far, by an
 *             active set; done when its duality gap over all features is at most 1e-6 |v|^2 / 2.
 * non_negative: a >= 0, and atoms are chosen by <r, d_j> / ||d_j|| itself. OMP then fits by non-negative least squares (Lawson &
 *             Hanson 1974), and an atom chosen once is not chosen again; GRADIENT sets what a step makes negative to 0, which
 *             takes the atom out and may raise the residual; L1 is the non-negative lasso.
 * atoms:      at least 1: take at most so many steps, so at most so many features. OMP and L1 choose another atom with each;
 *             GRADIENT and MATCHING may choose one again. Each costs one pass over W_dec.
 * residual:   in [0, 1): stop when ||r|| <= residual ||v||. Usual: 1e-6. Less than 1e-12 counts as 1e-12. Not for L1.
 * gain:       in [0, 1): stop before a step that lowers ||r||^2 by less than gain ||v||^2; 0 for no such rule. Not for L1.
 * penalty:    L1 alone, in (0, 1): lambda = penalty max_j |<v, d_j>| / ||d_j||, at which all a_j would be 0.
 * Duplicates: of equal atoms the lowest index serves. An atom whose cosine with r is 2^-16 or less says nothing that float32 can
 *             tell from rounding: the row ends there. So no atom within 2^-16 of its length of the span of those chosen is added, and
 *             nearly parallel or antipodal atoms (say |cosine| 0.9999) are fitted as they are, with large coefficients if v asks.
 * Defined to the bit, as everything but project_dense; negating v negates the signed values and nothing else. All in double, each product
 *   rounded before it is added:
 *   S(x, y)   eight sums: element i joins sum i mod 8, i ascending, but those beyond the last whole eight join sum 0; then halved
 *             (s[i] += s[i + 4], 2, 1). ||v|| is the square root of eight such sums added in order, every other norm of S.
 *   z         coefficients of the normalised atoms u_i = d_i / ||d_i||, in the order in which they were chosen; a_i = z_i / ||d_i||,
 *             rounded to float32 once. r = v, then r += (-z_i / ||d_i||) d_i for each i with z_i != 0, i ascending.
 *   Choosing  r times 2^-e, e = ilogb(||r||), is rounded to float32; the correlation that is found is multiplied by 2^e.
 *   Fits      G_ij = S(d_i, d_j) / (||d_i|| ||d_j||), G_ii = 1, b_i = S(v, d_i) / ||d_i||. Cholesky by rows: L_ij = (G_ij - sum_k L_ik L_jk)
 *             / L_jj, the pivot 1 - sum_j L_ij^2, both subtracted k, j ascending; a pivot below 2^-40 is a dependent atom. Substitution forwards
 *             and backwards, subtracted k ascending. OMP then adds, once, the solution for S(r, d_i) / ||d_i||, and computes r again.
 *   GRADIENT, MATCHING  g_i = S(r, d_i); c += g_i d_i, i ascending; z_i += (S(c, r) / S(c, c)) g_i ||d_i||, and z_i += g_i / ||d_i||.
 *   The active set of L1 and of non-negative OMP is as in pursuit.cpp; the tests' CanonicalPursuit is all of it in plain Java.
 */
SAE_API sae_status sae_pursue(const sae_model* model, const float* v, int64_t n, sae_method method, int32_t non_negative,
                              int64_t atoms, double residual, double gain, double penalty, sae_codes* codes);

#ifdef __cplusplus
}
#endif
#endif
