#include "uv_shims.h"

uv_handle_t *raftoral_uv_handle(void *handle) { return (uv_handle_t *)handle; }
