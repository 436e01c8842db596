#define _GNU_SOURCE
#include "openssl_shims.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static _Thread_local char text[8192];

static const unsigned char alpn_h2[] = {2, 'h', '2'};

/// The reason of OpenSSL's oldest error, or `fallback`.
static const char *reason(const char *fallback) {
    unsigned long code = ERR_get_error();
    const char *found = code ? ERR_reason_error_string(code) : NULL;
    snprintf(text, sizeof text, "%s", found ? found : fallback);
    ERR_clear_error();
    return text;
}

static int choose_alpn(
    SSL *session, const unsigned char **out, unsigned char *out_count, const unsigned char *in, unsigned int count,
    void *argument) {
    (void)session;
    (void)argument;
    for (unsigned int place = 0; place < count; place += 1u + in[place]) {
        if (in[place] == 2 && place + 3 <= count && memcmp(in + place + 1, "h2", 2) == 0) {
            *out = in + place + 1;
            *out_count = 2;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

raftoral_tls_context *raftoral_tls_context_new(bool is_server) {
    SSL_CTX *context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    if (!context) return NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(
        context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
    // What is not in the file of the certificate is not sent, whatever this side trusts.
    SSL_CTX_set_mode(
        context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    if (is_server) {
        SSL_CTX_set_alpn_select_cb(context, choose_alpn, NULL);
    } else {
        SSL_CTX_set_alpn_protos(context, alpn_h2, sizeof alpn_h2);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    }
    return context;
}

void raftoral_tls_context_free(raftoral_tls_context *context) { SSL_CTX_free(context); }

/// There is nobody to ask for a password.
static int no_password(char *buffer, int size, int is_writing, void *argument) {
    (void)buffer;
    (void)size;
    (void)is_writing;
    (void)argument;
    return -1;
}

const char *raftoral_tls_use_certificates(raftoral_tls_context *context, const void *pem, size_t byte_count) {
    ERR_clear_error();
    BIO *input = BIO_new_mem_buf(pem ? pem : "", (int)byte_count);
    if (!input) return reason("no memory");
    const char *failure = NULL;
    X509 *certificate = PEM_read_bio_X509_AUX(input, NULL, no_password, NULL);
    if (!certificate) {
        failure = "it holds no certificate in PEM form";
    } else {
        if (SSL_CTX_use_certificate(context, certificate) != 1) failure = reason("the certificate cannot be used");
        X509_free(certificate);
    }
    // What follows are the certificates on the way to the CA.
    while (!failure && (certificate = PEM_read_bio_X509(input, NULL, no_password, NULL))) {
        if (SSL_CTX_add0_chain_cert(context, certificate) != 1) {
            X509_free(certificate);
            failure = reason("the chain cannot be used");
        }
    }
    BIO_free(input);
    ERR_clear_error();
    return failure;
}

const char *raftoral_tls_use_key(raftoral_tls_context *context, const void *pem, size_t byte_count) {
    ERR_clear_error();
    BIO *input = BIO_new_mem_buf(pem ? pem : "", (int)byte_count);
    if (!input) return reason("no memory");
    EVP_PKEY *key = PEM_read_bio_PrivateKey(input, NULL, no_password, NULL);
    BIO_free(input);
    ERR_clear_error();
    if (!key) return "it holds no private key in PEM form without a password";
    bool is_used = SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
    EVP_PKEY_free(key);
    ERR_clear_error();
    return is_used ? NULL : "the key does not belong to the certificate";
}

const char *raftoral_tls_trust(raftoral_tls_context *context, const void *pem, size_t byte_count) {
    ERR_clear_error();
    BIO *input = BIO_new_mem_buf(pem ? pem : "", (int)byte_count);
    if (!input) return reason("no memory");
    int count = 0;
    X509 *certificate;
    while ((certificate = PEM_read_bio_X509(input, NULL, no_password, NULL))) {
        bool is_added = X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate) == 1;
        is_added &= SSL_CTX_add_client_CA(context, certificate) == 1;
        X509_free(certificate);
        if (is_added) count += 1;
    }
    BIO_free(input);
    ERR_clear_error();
    return count > 0 ? NULL : "it holds no certificate in PEM form";
}

void raftoral_tls_trust_system(raftoral_tls_context *context) {
    SSL_CTX_set_default_verify_paths(context);
    ERR_clear_error();
}

void raftoral_tls_verify_clients(raftoral_tls_context *context, int demand) {
    int mode = demand == 0 ? SSL_VERIFY_NONE
             : demand == 1 ? SSL_VERIFY_PEER
                           : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(context, mode, NULL);
}

/// What a context does for one more name.
typedef struct {
    SSL_CTX *other;
    char name[64];
} named_context;

static int named_index = -1;

static void free_named(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argument, void *context) {
    (void)parent;
    (void)data;
    (void)index;
    (void)argument;
    (void)context;
    named_context *named = pointer;
    if (named) SSL_CTX_free(named->other);
    OPENSSL_free(named);
}

static int choose_context(SSL *session, int *alert, void *argument) {
    (void)alert;
    named_context *named = argument;
    const char *asked = SSL_get_servername(session, TLSEXT_NAMETYPE_host_name);
    if (!asked || strcmp(asked, named->name) != 0) return SSL_TLSEXT_ERR_OK;
    SSL_set_SSL_CTX(session, named->other);
    // The certificate and whom to trust come with the context; whether to ask does not.
    SSL_set_verify(session, SSL_CTX_get_verify_mode(named->other), NULL);
    return SSL_TLSEXT_ERR_OK;
}

bool raftoral_tls_serve_name(raftoral_tls_context *context, const char *name, raftoral_tls_context *other) {
    if (named_index < 0) named_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_named);
    named_context *named = OPENSSL_zalloc(sizeof *named);
    if (!named || named_index < 0) return false;
    snprintf(named->name, sizeof named->name, "%s", name);
    SSL_CTX_up_ref(other);
    named->other = other;
    SSL_CTX_set_ex_data(context, named_index, named);
    SSL_CTX_set_tlsext_servername_callback(context, choose_context);
    SSL_CTX_set_tlsext_servername_arg(context, named);
    return true;
}

static bool seconds(const ASN1_TIME *time, int64_t *result) {
    struct tm parts;
    if (!time || ASN1_TIME_to_tm(time, &parts) != 1) return false;
    *result = (int64_t)timegm(&parts);
    return true;
}

bool raftoral_tls_validity(raftoral_tls_context *context, int64_t *not_before, int64_t *not_after) {
    X509 *certificate = SSL_CTX_get0_certificate(context);
    return certificate && seconds(X509_get0_notBefore(certificate), not_before)
        && seconds(X509_get0_notAfter(certificate), not_after);
}

// ---------------------------------------------------------------------------------------------

static bool is_address(const char *host) {
    unsigned char bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

raftoral_tls_session *raftoral_tls_session_new(
    raftoral_tls_context *context, const char *host, const char *server_name) {
    ERR_clear_error();
    SSL *session = SSL_new(context);
    BIO *input = BIO_new(BIO_s_mem());
    BIO *output = BIO_new(BIO_s_mem());
    if (!session || !input || !output) {
        SSL_free(session);
        BIO_free(input);
        BIO_free(output);
        return NULL;
    }
    BIO_set_mem_eof_return(input, -1);
    BIO_set_mem_eof_return(output, -1);
    SSL_set_bio(session, input, output);
    if (!host) {
        SSL_set_accept_state(session);
        return session;
    }
    SSL_set_connect_state(session);
    bool is_bound;
    if (is_address(host)) {
        is_bound = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host) == 1;
    } else {
        SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        is_bound = SSL_set1_host(session, host) == 1;
    }
    const char *asked = server_name ? server_name : is_address(host) ? NULL : host;
    if (asked) is_bound &= SSL_set_tlsext_host_name(session, asked) == 1;
    if (is_bound) return session;
    SSL_free(session);
    return NULL;
}

void raftoral_tls_session_free(raftoral_tls_session *session) { SSL_free(session); }

bool raftoral_tls_receive(raftoral_tls_session *session, const void *bytes, size_t byte_count) {
    if (byte_count == 0) return true;
    return BIO_write(SSL_get_rbio(session), bytes, (int)byte_count) == (int)byte_count;
}

int raftoral_tls_handshake(raftoral_tls_session *session) {
    ERR_clear_error();
    int result = SSL_do_handshake(session);
    if (result != 1) {
        int error = SSL_get_error(session, result);
        return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    const unsigned char *protocol;
    unsigned int count;
    SSL_get0_alpn_selected(session, &protocol, &count);
    return count == 2 && memcmp(protocol, "h2", 2) == 0 ? 1 : -1;
}

int64_t raftoral_tls_read(raftoral_tls_session *session, void *buffer, size_t byte_count) {
    ERR_clear_error();
    size_t count = 0;
    if (SSL_read_ex(session, buffer, byte_count, &count) == 1) return (int64_t)count;
    switch (SSL_get_error(session, 0)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return 0;
    case SSL_ERROR_ZERO_RETURN: return -1;
    default: return -2;
    }
}

bool raftoral_tls_write(raftoral_tls_session *session, const void *bytes, size_t byte_count) {
    ERR_clear_error();
    const unsigned char *rest = bytes;
    while (byte_count > 0) {
        size_t count = 0;
        if (SSL_write_ex(session, rest, byte_count, &count) != 1) return false;
        rest += count;
        byte_count -= count;
    }
    return true;
}

void raftoral_tls_end(raftoral_tls_session *session) {
    (void)SSL_shutdown(session);
    ERR_clear_error();
}

size_t raftoral_tls_output(raftoral_tls_session *session, const void **bytes) {
    char *start = NULL;
    long count = BIO_get_mem_data(SSL_get_wbio(session), &start);
    *bytes = start;
    return count > 0 ? (size_t)count : 0;
}

void raftoral_tls_sent(raftoral_tls_session *session) { (void)BIO_reset(SSL_get_wbio(session)); }

const char *raftoral_tls_failure(raftoral_tls_session *session) {
    long result = SSL_get_verify_result(session);
    unsigned long code = ERR_peek_error();
    bool is_verification = code && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    if (is_verification && result != X509_V_OK) {
        snprintf(text, sizeof text, "its certificate is not accepted: %s", X509_verify_cert_error_string(result));
        ERR_clear_error();
        return text;
    }
    if (code == 0) return "it does not agree to speak h2 (ALPN)";
    // Alerts are what the other side found wrong with us.
    int reason_code = ERR_GET_REASON(code);
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason_code >= SSL_AD_REASON_OFFSET) {
        // "sslv3 alert certificate expired", "tlsv13 alert certificate required"
        const char *alert = ERR_reason_error_string(code);
        const char *start = alert ? strstr(alert, "alert ") : NULL;
        snprintf(text, sizeof text, "the other side refuses: %s", start ? start + 6 : alert ? alert : "no reason given");
        ERR_clear_error();
        return text;
    }
    return reason("the handshake failed");
}

bool raftoral_tls_is_served_by(raftoral_tls_session *session, raftoral_tls_context *context) {
    return SSL_get_SSL_CTX(session) == context;
}

/// Appends a line unless it does not fit or holds what has no place in a name.
static void append(const unsigned char *name, int count, size_t *used) {
    if (count <= 0 || *used + (size_t)count + 2 > sizeof text) return;
    for (int place = 0; place < count; place++) {
        if (name[place] < 0x20 || name[place] == 0x7F) return;
    }
    memcpy(text + *used, name, (size_t)count);
    *used += (size_t)count;
    text[(*used)++] = '\n';
    text[*used] = 0;
}

const char *raftoral_tls_other_names(raftoral_tls_session *session) {
    text[0] = 0;
    size_t used = 0;
    X509 *certificate = SSL_get0_peer_certificate(session);
    if (!certificate || SSL_get_verify_result(session) != X509_V_OK) return text;
    X509_NAME *subject = X509_get_subject_name(certificate);
    int place = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (place >= 0) {
        unsigned char *name = NULL;
        int count = ASN1_STRING_to_UTF8(&name, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, place)));
        append(name, count, &used);
        OPENSSL_free(name);
    }
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int each = 0; each < sk_GENERAL_NAME_num(names); each++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, each);
        if (name->type != GEN_DNS && name->type != GEN_URI && name->type != GEN_EMAIL) continue;
        append(ASN1_STRING_get0_data(name->d.ia5), ASN1_STRING_length(name->d.ia5), &used);
    }
    GENERAL_NAMES_free(names);
    return text;
}

// ---------------------------------------------------------------------------------------------

void raftoral_sha256(const void *bytes, size_t byte_count, uint8_t *digest) {
    EVP_Digest(bytes ? bytes : "", byte_count, digest, NULL, EVP_sha256(), NULL);
}

bool raftoral_equal(const void *left, const void *right, size_t byte_count) {
    return CRYPTO_memcmp(left, right, byte_count) == 0;
}
