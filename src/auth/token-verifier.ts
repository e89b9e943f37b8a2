/**
 * A caller's bearer token, verified offline as GitLab's registry does it (facts/gitlab.md 4.2): a trusted key found by
 * `kid` alone (never by an `x5c` or `jwk` the token brings), issuer, audience, dates, signature. Nothing of a token is
 * believed, kept or logged before all of that held.
 */
import { type JWTVerifyOptions, jwtVerify } from 'jose'
import { LRUCache } from 'lru-cache'
import { z } from 'zod'
import { ALGORITHMS } from './algorithms.ts'
import { type Caller, createCaller } from './caller.ts'
import type { TrustedKeys } from './trusted-keys.ts'

/**
 * `missing`: no bearer token was sent, and the challenge carries no error. `invalid`: malformed, expired, of another
 * issuer or audience, not signed by a trusted key; `error="invalid_token"`.
 */
export class TokenError extends Error {
  override readonly name = 'TokenError'
  readonly code: 'missing' | 'invalid'

  constructor(code: 'missing' | 'invalid', message: string, options: { cause?: unknown } = {}) {
    super(message, options)
    this.code = code
  }
}

export interface TokenVerifier {
  /** From an `Authorization` header as it came. Throws `TokenError` and nothing else. */
  verify(authorization: string | undefined): Promise<Caller>
  /** The answer of an earlier `verify` of the same header, while it holds: one map lookup. */
  cached(authorization: string | undefined): Caller | undefined
}

export interface TokenVerifierDependencies {
  readonly keys: TrustedKeys
  /** The one `iss` taken. */
  readonly issuer: string
  /** What `aud` must be or hold. */
  readonly service: string
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

export interface TokenVerifierOptions {
  /** Room for verified tokens, in bytes of their text; default 8 MiB, some thousands of GitLab's. */
  readonly cacheBytes?: number
}

/** As both registries allow for clocks that differ. */
const LEEWAY_SECONDS = 60
/** Longer headers are refused unread. Node's own limit is lower unless it was raised. */
const MAX_HEADER_LENGTH = 64 * 1024
/** GitLab's registry calls a token with more of them malformed. */
const MAX_AUDIENCES = 10

/** The claims beside those jose checks. `null` is absent, as in Go. */
const CLAIMS = z.object({
  aud: z.union([z.string(), z.array(z.string()).max(MAX_AUDIENCES)]),
  exp: z.number(),
  iat: z.number().optional(),
  sub: z.string().nullish(),
  auth_type: z.string().nullish(),
  access: z
    .array(
      z.object({
        type: z.string(),
        name: z.string(),
        actions: z.array(z.string()).nullish(),
        // Other token services may put what they like there.
        meta: z.object({ project_id: z.int().positive() }).optional().catch(undefined),
      }),
    )
    .nullish(),
})

export function createTokenVerifier(
  { keys, issuer, service, now = Date.now }: TokenVerifierDependencies,
  options: TokenVerifierOptions = {},
): TokenVerifier {
  /** By the whole header, so that a hit needs no slicing. */
  const verified = new LRUCache<string, Caller>({
    maxSize: options.cacheBytes ?? 8 * 1024 * 1024,
    sizeCalculation: (_caller, header) => header.length,
  })
  let cacheVersion = keys.version

  function cached(authorization: string | undefined): Caller | undefined {
    if (authorization === undefined) return undefined
    if (cacheVersion !== keys.version) {
      verified.clear()
      cacheVersion = keys.version
    }
    const caller = verified.get(authorization)
    return caller && now() < caller.expiresAtMs ? caller : undefined
  }

  async function verify(authorization: string | undefined): Promise<Caller> {
    const known = cached(authorization)
    if (known) return known
    const token = bearerToken(authorization)
    const version = keys.version
    const caller = await verifyToken(token)
    // A key may have been withdrawn meanwhile: then this answer stands, but is not remembered.
    if (authorization !== undefined && version === keys.version) verified.set(authorization, caller)
    return caller
  }

  async function verifyToken(token: string): Promise<Caller> {
    const claimOptions: JWTVerifyOptions = {
      algorithms: [...ALGORITHMS],
      issuer,
      audience: service,
      clockTolerance: LEEWAY_SECONDS,
      currentDate: new Date(now()),
    }
    try {
      const { payload } = await jwtVerify(token, ({ kid, alg }) => signingKey(kid, alg), claimOptions)
      return callerOf(CLAIMS.parse(payload))
    } catch (cause) {
      if (cause instanceof TokenError) throw cause
      throw new TokenError('invalid', 'the token was refused', { cause })
    }
  }

  function signingKey(kid: string | undefined, algorithm: string) {
    const trusted = kid === undefined ? undefined : keys.find(kid)
    if (!trusted) {
      const which =
        kid === undefined ? 'a key it does not name' : `the untrusted key "${String(kid).slice(0, 128)}"`
      throw new TokenError('invalid', `the token is signed by ${which}`)
    }
    // `alg` is the sender's word: it must be one this very key makes.
    if (trusted.algorithms.some((name) => name === algorithm)) return trusted.key
    throw new TokenError('invalid', `the token's key does not sign with ${algorithm}`)
  }

  return { verify, cached }
}

/** As the registry reads it: two parts, the first of them `Bearer` in any case; everything else is no token at all. */
function bearerToken(authorization: string | undefined): string {
  if (authorization === undefined) throw new TokenError('missing', 'no token was sent')
  if (authorization.length > MAX_HEADER_LENGTH) {
    throw new TokenError('invalid', `the token is longer than ${MAX_HEADER_LENGTH} characters`)
  }
  const match = /^bearer ([^ ]*)$/i.exec(authorization)
  if (!match) throw new TokenError('missing', 'the Authorization header holds no bearer token')
  return match[1] ?? ''
}

function callerOf(claims: z.infer<typeof CLAIMS>): Caller {
  return createCaller({
    subject: claims.sub ?? undefined,
    authType: claims.auth_type ?? undefined,
    issuedAtSeconds: claims.iat ?? 0,
    expiresAtMs: (claims.exp + LEEWAY_SECONDS) * 1000,
    grants: (claims.access ?? []).map(({ type, name, actions, meta }) => ({
      type,
      name,
      actions: actions ?? [],
      projectId: meta?.project_id,
    })),
  })
}
