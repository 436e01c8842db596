// What Swift cannot call of libuv by itself: function-like macros, variadics and handle casts.
#pragma once
#include <uv.h>

uv_handle_t *raftoral_uv_handle(void *handle);
