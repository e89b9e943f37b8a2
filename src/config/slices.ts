/** The configuration as the parts of the program get it: one slice each, units in the names, nothing left to parse. */
import { resolve } from 'node:path'
import type { ModeRule } from '../oci/repository-mode.ts'
import type { ListenAddress } from './addresses.ts'
import type { Proxies } from './proxies.ts'
import {
  type FollowConfig,
  followSlice,
  type RelayConfig,
  relaySlice,
  type TagsConfig,
  tagsSlice,
} from './relay-slices.ts'
import { Secret } from './secret.ts'
import { SETTING_PATHS, settingAt, type Values } from './settings.ts'

export type { FollowConfig, RelayConfig, TagsConfig } from './relay-slices.ts'

export interface CertificateFiles {
  /** PEM; the leaf first. */
  readonly certificateFile: string
  readonly keyFile: string
}

export interface HttpConfig {
  readonly listen: ListenAddress
  /** The origin clients use; undefined: the address listened on. */
  readonly host: string | undefined
  /** Seals upload locations; undefined: one made at start, and sealed locations end with the process. */
  readonly secret: Secret | undefined
  /** Addresses and CIDR ranges whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: readonly string[]
  readonly drainTimeoutMs: number
  /** How long a body waits for its client. */
  readonly idleTimeoutMs: number
  readonly tls: CertificateFiles | undefined
  readonly limits: {
    /** Per client address. */
    readonly connections: number
    /** Per client address. */
    readonly fills: number
    /** Per client address; undefined: no limit. */
    readonly uploadBytesPerHour: number | undefined
    /** Of the whole process. */
    readonly maxFills: number
  }
}

export interface AdminConfig {
  readonly listen: ListenAddress
  readonly token: Secret | undefined
}

export type UpstreamAuthConfig =
  | { readonly kind: 'key'; readonly keyFile: string; readonly issuer: string; readonly service: string }
  | {
      readonly kind: 'password'
      readonly username: string
      readonly password: Secret
      /** The one token service the password may go to; undefined: on the primary's own origin only. */
      readonly realm: string | undefined
    }

export interface UpstreamConfig {
  /** Scheme, host and port, without a trailing slash. */
  readonly origin: string
  readonly auth: UpstreamAuthConfig | undefined
  readonly tls: {
    /** Trusted beside the system's certificates. */
    readonly caFile: string | undefined
    readonly client: CertificateFiles | undefined
  }
  readonly timeouts: {
    readonly connectMs: number
    readonly tagMs: number
    readonly headMs: number
    readonly writeMs: number
    readonly idleMs: number
  }
  readonly proxies: Proxies
}

export type AuthConfig =
  | {
      readonly kind: 'token'
      readonly realm: string
      readonly service: string
      readonly issuer: string
      /** At least one of the two is there. */
      readonly rootCertBundleFile: string | undefined
      readonly jwksFile: string | undefined
      /** Token services for `/jwt/auth` in the order they are tried; empty: not served. */
      readonly services: readonly string[]
    }
  | { readonly kind: 'none'; readonly push: boolean; readonly public: boolean }

export interface ReplicationConfig {
  readonly enabled: boolean
  /** Where notifications are taken; undefined: nowhere. */
  readonly events: { readonly listen: ListenAddress; readonly secret: Secret } | undefined
  readonly modes: readonly ModeRule[]
  /** Repositories at a time. */
  readonly concurrency: number
  /** To the primary for one blob of more than `parallelAboveBytes`. */
  readonly connections: number
  readonly parallelAboveBytes: number
  readonly requestsPerSecond: number
  readonly bytesPerSecond: number | undefined
  /** Within which every repository is compared with the primary. */
  readonly reconcileMs: number
  /** Within which every blob is read again; 0: never. */
  readonly scrubMs: number
  readonly deleteGraceMs: number
}

export interface Config {
  readonly site: { readonly name: string }
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' }
  readonly http: HttpConfig
  readonly admin: AdminConfig
  readonly upstream: UpstreamConfig
  readonly auth: AuthConfig
  readonly storage: { readonly rootDirectory: string; readonly minFreeFraction: number }
  readonly tags: TagsConfig
  readonly digests: { readonly recheckMs: number }
  readonly outage: { readonly maxStaleMs: number }
  readonly replication: ReplicationConfig
  /** The relay that this site follows. */
  readonly follow: FollowConfig | undefined
  /** There exactly when this is the configuration of a relay, to which nothing of callers, tags and copies applies. */
  readonly relay: RelayConfig | undefined
  /** Undefined: SQLite in the store's folder. */
  readonly postgres: { readonly url: Secret } | undefined
  /** Undefined: one process, which needs none. */
  readonly redis: { readonly url: Secret } | undefined
  /** Every file named above: certificates, keys, secrets. They are read again when they change. */
  readonly files: readonly string[]
  /** Those that came from a file can be refreshed in place; everybody who holds one then reveals the new value. */
  readonly secrets: readonly Secret[]
}

/**
 * `values` have passed every rule. `kind` is which of `auth.token` and `auth.none` was chosen, or that it is a relay's.
 * Reads the files of secrets. The result is frozen all the way down.
 */
export function slice(values: Values, kind: AuthConfig['kind'] | 'relay', proxies: Proxies): Config {
  // A relay answers no clients.
  const callers = kind === 'relay' ? 'none' : kind
  const secrets: Secret[] = []
  const secret = (value: string | undefined, file: string | undefined) => {
    if (value === undefined && file === undefined) return undefined
    const made = value === undefined && file !== undefined ? Secret.fromFile(file) : new Secret(value ?? '')
    secrets.push(made)
    return made
  }
  const password = secret(values['upstream.auth.password'], values['upstream.auth.passwordfile'])
  const notificationSecret = secret(
    values['replication.notifications.secret'],
    values['replication.notifications.secretfile'],
  )
  return freeze({
    site: { name: values['site.name'] },
    log: { level: values['log.level'] },
    http: {
      listen: values['http.addr'],
      host: values['http.host'],
      secret: secret(values['http.secret'], values['http.secretfile']),
      trustedProxies: values['http.trustedproxies'] ?? [],
      drainTimeoutMs: values['http.draintimeout'],
      idleTimeoutMs: values['http.idletimeout'],
      tls: certificateFiles(values['http.tls.certificate'], values['http.tls.key']),
      limits: {
        connections: values['http.limits.connections'],
        fills: values['http.limits.fills'],
        uploadBytesPerHour: values['http.limits.uploadbytes'] || undefined,
        maxFills: values['http.limits.maxfills'],
      },
    },
    admin: {
      listen: values['http.admin.addr'],
      token: secret(values['http.admin.token'], values['http.admin.tokenfile']),
    },
    upstream: {
      origin: values['upstream.url'],
      auth: upstreamAuth(values, password),
      tls: {
        caFile: values['upstream.tls.cafile'],
        client: certificateFiles(values['upstream.tls.certificatefile'], values['upstream.tls.keyfile']),
      },
      timeouts: {
        connectMs: values['upstream.timeouts.connect'],
        tagMs: values['upstream.timeouts.tag'],
        headMs: values['upstream.timeouts.head'],
        writeMs: values['upstream.timeouts.write'],
        idleMs: values['upstream.timeouts.idle'],
      },
      proxies,
    },
    auth: callersAuth(values, callers),
    storage: {
      rootDirectory: resolve(values['storage.filesystem.rootdirectory']),
      minFreeFraction: values['storage.minfree'],
    },
    tags: tagsSlice(values),
    digests: { recheckMs: values['digests.recheck'] },
    outage: { maxStaleMs: values['outage.maxstale'] },
    replication: replication(
      values,
      // Without a word: wherever the site can read by itself.
      values['replication.enabled'] ??
        (kind !== 'relay' && (callers === 'none' || upstreamAuth(values, password) !== undefined)),
      notificationSecret,
    ),
    follow: followSlice(values, secret),
    relay: kind === 'relay' ? relaySlice(values, notificationSecret, secret) : undefined,
    postgres: connection(secret(values['tracking.postgres.url'], values['tracking.postgres.urlfile'])),
    redis: connection(secret(values['redis.url'], values['redis.urlfile'])),
    files: [
      ...SETTING_PATHS.flatMap((path) => {
        const value = values[path]
        return settingAt(path).file !== undefined && typeof value === 'string' ? [value] : []
      }),
      ...(values['relay.sites'] ?? []).map(({ tokenfile }) => tokenfile),
    ],
    secrets,
  })
}

function certificateFiles(certificateFile: string | undefined, keyFile: string | undefined) {
  return certificateFile !== undefined && keyFile !== undefined ? { certificateFile, keyFile } : undefined
}

function upstreamAuth(values: Values, password: Secret | undefined): UpstreamAuthConfig | undefined {
  const keyFile = values['upstream.auth.keyfile']
  const issuer = values['upstream.auth.issuer']
  const service = values['upstream.auth.service']
  const username = values['upstream.auth.username']
  if (keyFile && issuer && service) return { kind: 'key', keyFile, issuer, service }
  if (!username || !password) return undefined
  return { kind: 'password', username, password, realm: values['upstream.auth.realm'] }
}

function replication(
  values: Values,
  enabled: boolean,
  notificationSecret: Secret | undefined,
): ReplicationConfig {
  const listen = values['http.events.addr']
  return {
    enabled,
    events: listen && notificationSecret && { listen, secret: notificationSecret },
    modes: values['replication.modes'] ?? [],
    concurrency: values['replication.concurrency'],
    connections: values['replication.connections'],
    parallelAboveBytes: values['replication.parallelabove'],
    requestsPerSecond: values['replication.requests'],
    bytesPerSecond: values['replication.bandwidth'],
    reconcileMs: values['replication.reconcile'],
    scrubMs: values['replication.scrub'],
    deleteGraceMs: values['replication.deletegrace'],
  }
}

function connection(url: Secret | undefined): { readonly url: Secret } | undefined {
  return url && { url }
}

function callersAuth(values: Values, kind: AuthConfig['kind']): AuthConfig {
  if (kind === 'none') {
    return { kind, push: values['auth.none.push'], public: values['auth.none.public'] }
  }
  return {
    kind,
    // The rules have made sure of these three.
    realm: values['auth.token.realm'] ?? '',
    service: values['auth.token.service'] ?? '',
    issuer: values['auth.token.issuer'] ?? '',
    rootCertBundleFile: values['auth.token.rootcertbundle'],
    jwksFile: values['auth.token.jwks'],
    services: values['auth.token.services'] ?? [],
  }
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const member of Object.values(value)) freeze(member)
  }
  return value
}
