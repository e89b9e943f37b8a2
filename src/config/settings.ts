/**
 * Every setting there is: its type, its default as an operator would write it, and what it is for the reporter. The
 * table is flat so that each setting is judged by itself and all faults come out at once. What several settings mean
 * together is decided in `config.ts`.
 */
import { hostname } from 'node:os'
import { z } from 'zod'
import { parseRepositoryName } from '../oci/reference.ts'
import { parsePathPattern, REPOSITORY_MODES } from '../oci/repository-mode.ts'
import { parseAddress, parseCidr, parseHttpUrl, parseOrigin } from './addresses.ts'
import type { FileKind } from './files.ts'
import {
  parseDurationMs,
  parsePercent,
  parseRateBytesPerSecond,
  parseRequestsPerSecond,
  parseSizeBytes,
} from './units.ts'

export interface Setting {
  readonly type: z.ZodType
  /** Finishes the sentence "expected …". */
  readonly expected: string
  /** The same of a list's members. */
  readonly expectedEach?: string
  /** In the notation of the file. */
  readonly default?: string | number | boolean
  /** Has no default and must be given. */
  readonly required?: true
  /** Never shown. */
  readonly secret?: true
  /** The setting names a file of this kind, which is read and checked. */
  readonly file?: FileKind
  /** An environment variable's value is YAML here (lists, numbers, booleans); elsewhere it is taken as it stands. */
  readonly yaml?: true
}

/** 24 days: Node's timers fire at once beyond 2³¹ ms, and some waits are a sum of two. */
const LONGEST_TIMER_MS = 24 * 86_400_000

const words = z.string().min(1)
/** YAML reads `0` and `1048576` as numbers. */
const quantity = z.union([z.string(), z.number()]).transform(String)

function parsed<T>(expected: string, base: z.ZodType<string>, parse: (text: string) => T | undefined) {
  const type = base.transform((text, context): T => {
    const value = parse(text)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom' })
    return z.NEVER
  })
  return { type, expected }
}

function bounded(parse: (text: string) => number | undefined, least: number, most: number) {
  return (text: string) => {
    const value = parse(text)
    return value !== undefined && value >= least && value <= most ? value : undefined
  }
}

function positive(parse: (text: string) => number | undefined) {
  return bounded(parse, 1, Number.MAX_SAFE_INTEGER)
}

const text = { type: words, expected: 'text' }
const flag = { type: z.boolean(), expected: 'true or false', yaml: true } as const
const count = { type: z.int().min(1), expected: 'a whole number from 1', yaml: true } as const
const age = parsed('a duration such as 0s, 90s, 24h or 7d', quantity, parseDurationMs)
const wait = parsed(
  'a duration such as 900ms, 10s or 15m, at most 24d',
  quantity,
  bounded(parseDurationMs, 1, LONGEST_TIMER_MS),
)
const waitOrNone = parsed(
  'a duration such as 0s, 10s or 15m, at most 24d',
  quantity,
  bounded(parseDurationMs, 0, LONGEST_TIMER_MS),
)
const size = parsed('a size such as 64MiB or 10GB', quantity, parseSizeBytes)
const percent = parsed('a percentage such as 5%', words, parsePercent)
const rate = parsed('a rate such as 200Mbit/s or 25MB/s', words, positive(parseRateBytesPerSecond))
const requestRate = parsed('a rate of requests such as 10/s', words, positive(parseRequestsPerSecond))
const address = parsed('an address such as 127.0.0.1:5010, "[::1]:5010" or :5010', words, parseAddress)
const origin = parsed('a URL without a path, such as https://registry.example.com', words, parseOrigin)
const url = parsed('a URL such as https://gitlab.example.com/jwt/auth', words, parseHttpUrl)
const urls = {
  type: z.array(url.type),
  expected: 'a list of URLs',
  expectedEach: url.expected,
  yaml: true,
} as const
const network = parsed('a network such as 10.0.0.0/8, fd00::/8 or 192.0.2.7', words, parseCidr)
const networks = {
  type: z.array(network.type),
  expected: 'a list of networks such as [10.0.0.0/8, "fd00::/8"]',
  expectedEach: network.expected,
  yaml: true,
} as const
const pathPattern = parsed('a pattern such as "team/**"', words, parsePathPattern)
const modes = {
  type: z.array(z.strictObject({ pattern: pathPattern.type, mode: z.enum(REPOSITORY_MODES) })),
  expected: 'a list such as [{ pattern: "team/**", mode: ondemand }]',
  expectedEach: `${pathPattern.expected} with one of the modes ${REPOSITORY_MODES.join(', ')}`,
  yaml: true,
} as const
const level = { type: z.enum(['debug', 'info', 'warn', 'error']), expected: 'debug, info, warn or error' }
const freshness = { type: z.enum(['ask', 'watermark']), expected: 'ask or watermark' }
const repository = parsed('a repository such as geo-registry/canary', words, parseRepositoryName)
const canaryKind = { type: z.enum(['pull', 'push']), expected: 'pull or push' }
const origins = {
  type: z.array(origin.type),
  expected: 'a list of URLs without a path, such as [http://10.0.0.1:5000]',
  expectedEach: origin.expected,
  yaml: true,
} as const
/** The log's newest minute is always kept; anything shorter than this would send a site that restarts to compare everything. */
const retentionAge = parsed(
  'a duration such as 24h or 7d, at least 10m',
  quantity,
  bounded(parseDurationMs, 600_000, Number.MAX_SAFE_INTEGER),
)
const retentionSize = parsed(
  'a size such as 64MiB or 10GB, at least 1MiB',
  quantity,
  bounded(parseSizeBytes, 2 ** 20, Number.MAX_SAFE_INTEGER),
)
const sites = {
  type: z.array(z.strictObject({ name: words, tokenfile: words })),
  expected: 'a list such as [{ name: tokyo, tokenfile: /etc/geo-registry/tokyo.token }]',
  expectedEach: 'a name and a tokenfile, the path of a file with the token that the site sends',
  yaml: true,
} as const
const file = <K extends FileKind>(kind: K) => ({ type: words, expected: 'the path of a file', file: kind })

/** By path. The order is that of `config print`. */
export const SETTINGS = {
  version: { type: z.literal(1), expected: '1', required: true, yaml: true },
  'site.name': { ...text, default: hostname() },
  'log.level': { ...level, default: 'info' },
  'http.addr': { ...address, default: '127.0.0.1:5010' },
  'http.host': origin,
  'http.secret': { ...text, secret: true },
  'http.secretfile': file('secret'),
  'http.trustedproxies': networks,
  'http.draintimeout': { ...waitOrNone, default: '30s' },
  'http.idletimeout': { ...wait, default: '5m' },
  'http.tls.certificate': file('certificates'),
  'http.tls.key': file('private key'),
  'http.limits.connections': { ...count, default: 1000 },
  'http.limits.fills': { ...count, default: 100 },
  'http.limits.uploadbytes': { ...size, default: 0 },
  'http.limits.maxfills': { ...count, default: 64 },
  'http.admin.addr': { ...address, default: '127.0.0.1:5011' },
  'http.admin.token': { ...text, secret: true },
  'http.admin.tokenfile': file('secret'),
  'http.events.addr': address,
  'upstream.url': { ...origin, required: true },
  'upstream.auth.keyfile': file('private key'),
  'upstream.auth.issuer': text,
  'upstream.auth.service': text,
  'upstream.auth.username': text,
  'upstream.auth.password': { ...text, secret: true },
  'upstream.auth.passwordfile': file('secret'),
  'upstream.auth.realm': url,
  'upstream.tls.cafile': file('certificates'),
  'upstream.tls.certificatefile': file('certificates'),
  'upstream.tls.keyfile': file('private key'),
  'upstream.timeouts.connect': { ...wait, default: '2s' },
  'upstream.timeouts.tag': { ...wait, default: '900ms' },
  'upstream.timeouts.head': { ...wait, default: '30s' },
  'upstream.timeouts.write': { ...wait, default: '15m' },
  'upstream.timeouts.idle': { ...wait, default: '60s' },
  'auth.token.realm': url,
  'auth.token.service': text,
  'auth.token.issuer': text,
  'auth.token.rootcertbundle': file('certificates'),
  'auth.token.jwks': file('key set'),
  'auth.token.services': urls,
  'auth.none.push': { ...flag, default: false },
  'auth.none.public': { ...flag, default: false },
  'storage.filesystem.rootdirectory': { type: words, expected: 'the path of a folder', required: true },
  'storage.minfree': { ...percent, default: '5%' },
  'tags.trust': { ...age, default: '0s' },
  'tags.freshness': { ...freshness, default: 'ask' },
  'tags.maxstaleness': { ...wait, default: '10s' },
  'digests.recheck': { ...age, default: '24h' },
  'outage.maxstale': { ...age, default: '24h' },
  'replication.enabled': flag,
  'replication.notifications.secret': { ...text, secret: true },
  'replication.notifications.secretfile': file('secret'),
  'replication.modes': modes,
  'replication.concurrency': { ...count, default: 4 },
  'replication.connections': { ...count, default: 6 },
  'replication.parallelabove': { ...size, default: '64MiB' },
  'replication.requests': { ...requestRate, default: '10/s' },
  'replication.bandwidth': rate,
  'replication.reconcile': { ...wait, default: '24h' },
  'replication.scrub': { ...age, default: '90d' },
  'replication.deletegrace': { ...age, default: '168h' },
  'relay.url': origin,
  'relay.token': { ...text, secret: true },
  'relay.tokenfile': file('secret'),
  'relay.cafile': file('certificates'),
  'relay.addr': { ...address, default: '127.0.0.1:5012' },
  'relay.tls.certificate': file('certificates'),
  'relay.tls.key': file('private key'),
  'relay.instances': origins,
  'relay.canary.repository': { ...repository, default: 'geo-registry/canary' },
  'relay.canary.kind': { ...canaryKind, default: 'pull' },
  'relay.queuesize': { ...count, default: 3000 },
  'relay.retention.age': { ...retentionAge, default: '168h' },
  'relay.retention.size': { ...retentionSize, default: '1GiB' },
  'relay.sites': sites,
  'tracking.postgres.url': { ...text, secret: true },
  'tracking.postgres.urlfile': file('secret'),
  'redis.url': { ...text, secret: true },
  'redis.urlfile': file('secret'),
} as const satisfies Readonly<Record<string, Setting>>

type Settings = typeof SETTINGS
export type SettingPath = keyof Settings
type Output<P extends SettingPath> = z.output<Settings[P]['type']>
/** What the settings say; those without a default that need not be given may be undefined. */
export type Values = {
  readonly [P in SettingPath]: Settings[P] extends { default: unknown } | { required: true }
    ? Output<P>
    : Output<P> | undefined
}

export const SETTING_PATHS = Object.keys(SETTINGS) as SettingPath[]
export const SECTIONS: ReadonlySet<string> = new Set(SETTING_PATHS.flatMap(sectionsAbove))

export function isSettingPath(path: string): path is SettingPath {
  return Object.hasOwn(SETTINGS, path)
}

/** The table's entry under its general type, where which setting it is does not matter. */
export function settingAt(path: SettingPath): Setting {
  return SETTINGS[path]
}

/** `a.b.c` → `a`, `a.b`. */
export function sectionsAbove(path: string): string[] {
  const keys = path.split('.')
  return keys.slice(1).map((_, index) => keys.slice(0, index + 1).join('.'))
}
