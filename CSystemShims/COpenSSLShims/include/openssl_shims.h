// TLS between two memory buffers, by OpenSSL: what its macros, callbacks and string formats make awkward from Swift.
//
// One thread at a time uses a context or session. Texts that are returned live until the thread's next call.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ssl_ctx_st raftoral_tls_context;
typedef struct ssl_st raftoral_tls_session;

// ---------------------------------------------------------------------------------------------
// Contexts: a role, a certificate, and whom to trust

/// TLS 1.2 or newer, ALPN h2, no renegotiation, no resumption (each connection proves itself anew); NULL without memory.
raftoral_tls_context *_Nullable raftoral_tls_context_new(bool is_server);
void raftoral_tls_context_free(raftoral_tls_context *_Nonnull context);

/// These three take PEM and return NULL, or what is wrong with it. The key has to belong to the certificate, which
/// has to be set before.
const char *_Nullable raftoral_tls_use_certificates(
    raftoral_tls_context *_Nonnull context, const void *_Nullable pem, size_t byte_count);
const char *_Nullable raftoral_tls_use_key(
    raftoral_tls_context *_Nonnull context, const void *_Nullable pem, size_t byte_count);
const char *_Nullable raftoral_tls_trust(
    raftoral_tls_context *_Nonnull context, const void *_Nullable pem, size_t byte_count);
/// Trust what the system trusts.
void raftoral_tls_trust_system(raftoral_tls_context *_Nonnull context);

/// Of a server: 0 asks clients for no certificate, 1 checks one that they have, 2 demands one.
void raftoral_tls_verify_clients(raftoral_tls_context *_Nonnull context, int demand);
/// Of a server: whoever asks for `name` is served by `other`, which it keeps alive.
bool raftoral_tls_serve_name(
    raftoral_tls_context *_Nonnull context, const char *_Nonnull name, raftoral_tls_context *_Nonnull other);

/// When the context's own certificate begins and ends to be valid, Unix time; false without a certificate.
bool raftoral_tls_validity(
    raftoral_tls_context *_Nonnull context, int64_t *_Nonnull not_before, int64_t *_Nonnull not_after);

// ---------------------------------------------------------------------------------------------
// Sessions: one connection

/// `host`: of a client, the name or address that the server's certificate has to have. `server_name`: what it asks for
/// instead of the host's name. NULL without memory.
raftoral_tls_session *_Nullable raftoral_tls_session_new(
    raftoral_tls_context *_Nonnull context, const char *_Nullable host, const char *_Nullable server_name);
void raftoral_tls_session_free(raftoral_tls_session *_Nonnull session);

/// Bytes from the other side. False without memory.
bool raftoral_tls_receive(raftoral_tls_session *_Nonnull session, const void *_Nullable bytes, size_t byte_count);
/// 1: done, with h2 agreed. 0: needs more from the other side. -1: failed, see `raftoral_tls_failure`.
int raftoral_tls_handshake(raftoral_tls_session *_Nonnull session);
/// Bytes that were decrypted; 0: needs more from the other side. -1: the other side has ended. -2: failed.
int64_t raftoral_tls_read(raftoral_tls_session *_Nonnull session, void *_Nonnull buffer, size_t byte_count);
bool raftoral_tls_write(raftoral_tls_session *_Nonnull session, const void *_Nonnull bytes, size_t byte_count);
/// Tells the other side that nothing follows.
void raftoral_tls_end(raftoral_tls_session *_Nonnull session);
/// What is to be sent, until `raftoral_tls_sent`; 0: nothing.
size_t raftoral_tls_output(raftoral_tls_session *_Nonnull session, const void *_Nullable *_Nonnull bytes);
void raftoral_tls_sent(raftoral_tls_session *_Nonnull session);

const char *_Nonnull raftoral_tls_failure(raftoral_tls_session *_Nonnull session);
/// Whether the session came to be served by `context` (see `raftoral_tls_serve_name`).
bool raftoral_tls_is_served_by(raftoral_tls_session *_Nonnull session, raftoral_tls_context *_Nonnull context);
/// Common name and alternative names (DNS, URI, mail) of the other side's checked certificate, a line each; empty
/// without one.
const char *_Nonnull raftoral_tls_other_names(raftoral_tls_session *_Nonnull session);

// ---------------------------------------------------------------------------------------------

void raftoral_sha256(const void *_Nullable bytes, size_t byte_count, uint8_t *_Nonnull digest);
/// In a time that does not tell where they differ.
bool raftoral_equal(const void *_Nonnull left, const void *_Nonnull right, size_t byte_count);
