/**
 * The site's own credential at the primary: none, a token minted with a key, or a user name and password traded for
 * tokens at the primary's token service. Callers' tokens never pass through here.
 */
import { LRUCache } from 'lru-cache'
import { type Challenge, parseChallenges } from '../auth/challenge.ts'
import { parseScopes, type Scope } from '../auth/scope.ts'
import type { HeaderFields } from '../oci/headers.ts'
import { singleFlight } from '../single-flight.ts'
import type { Dispatcher } from './dispatcher.ts'
import { UpstreamError } from './errors.ts'
import { discard, elsewhere, refusal } from './failure.ts'
import { unlessAborted } from './unless-aborted.ts'
import type { ForwardAnswer } from './upstream.ts'
import { readWhole } from './whole-body.ts'

export interface TokenSource {
  /**
   * The `Authorization` for a request that needs `scope` (space-joined, may be empty); undefined when the primary asks
   * for none. Throws `UpstreamError`.
   */
  authorization(scope: string, signal?: AbortSignal): Promise<string | undefined>
  /** The primary said 401 to it: it is forgotten. Whether another one is worth asking for. */
  refused(scope: string): boolean
}

/** For a primary that asks nobody who they are. */
export function createNoTokenSource(): TokenSource {
  return { authorization: async () => undefined, refused: () => false }
}

/** A new token for each request, as Geo does it: minting is cheap, and none can be too old or too wide. */
export function createMintedTokenSource(mint: (scopes: readonly Scope[]) => Promise<string>): TokenSource {
  return {
    async authorization(scope) {
      const scopes = parseScopes(scope)
      if (!scopes) throw new UpstreamError('unauthorized', `no token can be minted for ${scope}`)
      try {
        return `Bearer ${await mint(scopes)}`
      } catch (cause) {
        throw new UpstreamError('unauthorized', "the site's own token could not be made", { cause })
      }
    },
    refused: () => false,
  }
}

export interface PasswordTokenSourceOptions {
  /** Asked for at each use, so that a password file can change. */
  readonly login: () => { readonly username: string; readonly password: string }
  /** Where the token service is, if not at the primary's own origin: `https://gitlab.example.com/jwt/auth`. */
  readonly realm?: string | undefined
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

/** What a ping's answer asks for. `bearer`: where tokens are had, checked against the pin. */
type Demand =
  | { readonly kind: 'open' }
  | { readonly kind: 'basic' }
  | { readonly kind: 'bearer'; readonly tokenUrl: URL }

const TOKEN_ANSWER_MAX_BYTES = 64 * 1024
/** What a token without `expires_in` is good for, by Docker's token specification; GitLab's come without. */
const DEFAULT_LIFETIME_SECONDS = 60
/** A kept token is given up this long before its end, or a quarter of its life before where that is less. */
const MARGIN_MS = 10_000
const KEPT_TOKENS = 1000
/** GitLab may ban an address for an hour, its clients with it, after 30 refused logins in 3 minutes. */
const REFUSED_REST_MS = 15_000

/** Throws when `realm` is no URL, or is http while the primary is https. */
export function createPasswordTokenSource(
  dispatcher: Pick<Dispatcher, 'origin' | 'timeouts' | 'send'>,
  options: PasswordTokenSourceOptions,
): TokenSource {
  const { login, now = () => performance.now() } = options
  const { headMs } = dispatcher.timeouts
  const pinned = new URL(options.realm ?? dispatcher.origin)
  if (pinned.protocol !== new URL(dispatcher.origin).protocol && pinned.protocol !== 'https:') {
    throw new Error(`the token realm ${pinned.origin} would be sent the password in clear: it must be https`)
  }
  const tokens = new LRUCache<string, { authorization: string; untilMs: number }>({ max: KEPT_TOKENS })
  const fetches = singleFlight<string, string>()
  const pings = singleFlight<'ping', Demand>()
  let demand: Demand | undefined
  /** The last login that the token service did not take. */
  let refusedLogin:
    | { readonly authorization: string; readonly untilMs: number; readonly error: Error }
    | undefined

  async function askPrimary(): Promise<Demand> {
    const answer = await dispatcher.send({
      operation: 'ping',
      method: 'GET',
      url: `${dispatcher.origin}/v2/`,
      headers: {},
      headMs,
      repeatable: true,
    })
    if (answer.status === 200) {
      await discard(answer, headMs)
      return { kind: 'open' }
    }
    if (answer.status !== 401) throw await refusal(answer, { what: 'ping', deadlineMs: headMs })
    const headers: HeaderFields = answer.headers
    await discard(answer, headMs)
    return demandOf(parseChallenges(headers['www-authenticate']), pinned.origin)
  }

  async function fetchToken(tokenUrl: URL, scope: string): Promise<string> {
    const { username, password } = login()
    const sent = basic({ username, password })
    if (refusedLogin?.authorization === sent && now() < refusedLogin.untilMs) throw refusedLogin.error
    const url = new URL(tokenUrl)
    url.searchParams.append('account', username)
    if (scope !== '') url.searchParams.append('scope', scope)
    const askedAtMs = now()
    const answer = await dispatcher
      .send({
        operation: 'token',
        method: 'GET',
        url: url.href,
        headers: { authorization: sent, 'accept-encoding': 'identity' },
        headMs,
        repeatable: true,
      })
      .catch((error: unknown) => {
        throw url.origin === new URL(dispatcher.origin).origin ? error : elsewhere(error)
      })
    if (answer.status !== 200) {
      const error = await refusal(answer, { what: 'login of the site', deadlineMs: headMs })
      if (answer.status === 401) {
        refusedLogin = { authorization: sent, untilMs: now() + REFUSED_REST_MS, error }
      }
      throw error
    }
    const { token, lifetimeMs } = await readToken(answer, headMs)
    const authorization = `Bearer ${token}`
    const untilMs = askedAtMs + lifetimeMs - Math.min(MARGIN_MS, lifetimeMs / 4)
    tokens.set(scope, { authorization, untilMs })
    return authorization
  }

  return {
    async authorization(scope, signal) {
      const kept = tokens.get(scope)
      if (kept && now() < kept.untilMs) return kept.authorization
      // Shared by all who wait, so no single caller's signal may end it.
      demand ??= await unlessAborted(pings('ping', askPrimary), signal)
      if (demand.kind === 'open') return undefined
      if (demand.kind === 'basic') return basic(login())
      const { tokenUrl } = demand
      return unlessAborted(
        fetches(scope, () => fetchToken(tokenUrl, scope)),
        signal,
      )
    },
    refused(scope) {
      tokens.delete(scope)
      demand = undefined // The primary may have moved its token service, or have been opened and closed again.
      return true
    },
  }
}

/**
 * The realm is named by whoever answers for the primary, and a password goes there: it must be of the pinned origin
 * (CVE-2026-33540 is what happens otherwise). Throws `UpstreamError`.
 */
function demandOf(challenges: readonly Challenge[], pinnedOrigin: string): Demand {
  const bearer = challenges.find((challenge) => challenge.scheme === 'bearer')
  if (!bearer) {
    if (challenges.some((challenge) => challenge.scheme === 'basic')) return { kind: 'basic' }
    throw new UpstreamError('faulty', 'the primary said 401 without a challenge that can be met')
  }
  const url = URL.parse(bearer.parameters.get('realm') ?? '')
  if (!url) throw new UpstreamError('faulty', 'the primary named no token realm')
  if (url.origin !== pinnedOrigin) {
    throw new UpstreamError(
      'faulty',
      `the primary named a token realm at ${url.origin}; only ${pinnedOrigin} is trusted with the login (upstream.auth.realm)`,
    )
  }
  const service = bearer.parameters.get('service')
  if (service !== undefined) url.searchParams.append('service', service)
  return { kind: 'bearer', tokenUrl: url }
}

async function readToken(
  answer: ForwardAnswer,
  deadlineMs: number,
): Promise<{ token: string; lifetimeMs: number }> {
  const bytes = await readWhole(answer.body, TOKEN_ANSWER_MAX_BYTES, deadlineMs)
  const fields = parseFields(bytes)
  // `access_token` is OAuth's name for the same; a service may send either or both.
  const token = fields?.['token'] ?? fields?.['access_token']
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw new UpstreamError('faulty', 'the token service answered 200 without a token')
  }
  const seconds = fields?.['expires_in']
  const known = typeof seconds === 'number' && seconds > 0
  return { token, lifetimeMs: (known ? seconds : DEFAULT_LIFETIME_SECONDS) * 1000 }
}

function parseFields(bytes: Buffer | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes?.toString('utf8') ?? '')
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined // Not JSON, so no token: the caller says so.
  }
}

function basic({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}
