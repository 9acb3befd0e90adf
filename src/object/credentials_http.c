// Requests to metadata services: few, small, one at a time.
#include "object/credentials.h"

#include <curl/curl.h>

#define CONNECT_MS 1000L
#define TOTAL_MS   3000L

static size_t on_body(char *p, size_t one, size_t n, void *arg)
{
    return buf_append(arg, p, n) == ERR_OK ? n : 0;
}

enum err credentials_http(void *arg, const struct metadata_request *r, struct buf *body,
                          unsigned *status)
{
    *status = 0;
    CURL *easy = curl_easy_init();
    struct curl_slist *headers = r->header ? curl_slist_append(NULL, r->header) : NULL;
    if (!easy || (r->header && !headers)) {
        curl_easy_cleanup(easy);
        return ERR_NO_MEMORY;
    }
    curl_easy_setopt(easy, CURLOPT_URL, r->url);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); // the keys are nobody else's to see
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, TOTAL_MS);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, body);
    CURLcode code = curl_easy_perform(easy);
    long answer = 0;
    if (code == CURLE_OK)
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answer);
    *status = (unsigned)answer;
    curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
    return code == CURLE_OK ? ERR_OK : ERR_NETWORK;
}
