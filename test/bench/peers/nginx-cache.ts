/**
 * NGINX as somebody who knows it puts it in front of a registry: what has a digest is kept for good, tags for a while,
 * one request at a time fetches what is missing, connections to the primary stay open, and what is held stands in for a
 * primary that does not answer. It cannot log in, so it sends one token, and whoever asks it gets all that is in it.
 */
import type { NginxOptions } from '../../support/nginx.ts'

export interface CachingNginxOptions {
  readonly primary: string
  /** Sent to the primary with every request. */
  readonly authorization: string
  /** Where it keeps what it has; made by NGINX. */
  readonly folder: string
  readonly tagSeconds: number
}

/** Between two reads from the primary, and to the first. Its default, 60 s, is longer than most clients wait. */
const READ_TIMEOUT_SECONDS = 10

export function cachingNginx(options: CachingNginxOptions): NginxOptions {
  const { primary, authorization, folder, tagSeconds } = options
  const location = (pattern: string, key: string, valid: string) => `
    location ~ ${pattern} {
      proxy_pass http://primary;
      proxy_cache_key ${key};
      proxy_cache_valid 200 ${valid};
    }`
  return {
    http: `
  proxy_cache_path ${folder} levels=1:2 keys_zone=registry:10m inactive=7d max_size=20g use_temp_path=off;
  upstream primary { server ${new URL(primary).host}; keepalive 32; }`,
    servers: [
      {
        extra: `
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header Authorization "${authorization}";
    proxy_connect_timeout 5s;
    proxy_read_timeout ${READ_TIMEOUT_SECONDS}s;
    proxy_buffer_size 64k;
    proxy_buffers 16 64k;
    proxy_cache registry;
    proxy_cache_revalidate on;
    proxy_cache_lock on;
    proxy_cache_lock_timeout 300s;
    proxy_cache_lock_age 300s;
    proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
    ${location('^/v2/.+/blobs/sha256:', '$uri', '365d')}
    ${location('^/v2/.+/manifests/sha256:', '"$uri $http_accept"', '365d')}
    ${location('^/v2/.+/manifests/', '"$uri $http_accept"', `${tagSeconds}s`)}
    location / { proxy_pass http://primary; proxy_cache off; }`,
      },
    ],
  }
}
