// What server reflection serves.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// An encoded google.protobuf.FileDescriptorSet of all services of a node.
const uint8_t *_Nonnull raftoral_descriptor_set(size_t *_Nonnull byte_count);
