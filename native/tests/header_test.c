/* sae4j.h is a C header: this must compile as C, and call. */
#include "sae4j.h"

int call_from_c(void) {
  sae_codes* codes = 0;
  if (sae_codes_create(&codes) != SAE_OK) return 0;
  sae_codes_destroy(codes);
  return sae_encode(0, 0, 0, 0) == SAE_INVALID_ARGUMENT && sae_version()[0] != 0;
}
