/**
 * Who may do what (law 3), decided before any handler runs: route and method → the scopes the registry demands → the
 * caller's token. With `auth.none` everybody may read, and write only where `auth.none.push` says so.
 */
import type { Caller } from '../src/auth/caller.ts'
import { type AccessTarget, requiredAccess } from '../src/auth/scope.ts'
import { TokenError, type TokenVerifier } from '../src/auth/token-verifier.ts'
import { type ChallengeSettings, unauthorized } from '../src/auth/unauthorized.ts'
import { OciError } from '../src/oci/errors.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import type { Credential } from '../src/upstream/upstream.ts'
import type { Exchange } from './exchange.ts'
import type { Route } from './routes.ts'

export interface Authorizer {
  /** Sets `exchange.access`; a promise only when something had to be waited for. Throws `OciError` 401 or 405. */
  authorize(exchange: Exchange, route: Route): Promise<void> | undefined
  /** The 401 for a token that verified here and that the primary did not take. */
  challenge(exchange: Exchange, route: Route | undefined): OciError
}

export interface TokenAuthorizerDeps {
  readonly verifier: TokenVerifier
  readonly index: RepositoryIndex
  readonly settings: ChallengeSettings
}

export function createTokenAuthorizer({ verifier, index, settings }: TokenAuthorizerDeps): Authorizer {
  function admit(exchange: Exchange, route: Route, caller: Caller): Promise<void> | undefined {
    const required = requiredAccess(exchange.request.method ?? '', targetOf(exchange, route))
    if (!caller.allows(required)) throw unauthorized(settings, required, 'insufficient_scope')
    const { authorization } = exchange.request.headers
    const { expiresAtMs } = caller
    const access = { credential: { kind: 'caller', authorization } as const, expiresAtMs, onlyPrimary: false }
    if (!('name' in route)) {
      exchange.access = { ...access, mayWrite: false }
      return undefined
    }
    const mayWrite = caller.grantsMoreThanPull(route.name)
    exchange.access = { ...access, mayWrite }
    const projectId = caller.projectId(route.name)
    if (projectId === undefined) return undefined
    // Another project may live under an old path: what the old one left must not be served to the new one's users.
    return index.identify(route.name, projectId, caller.issuedAtSeconds).then((identity) => {
      if (identity === 'older') exchange.access = { ...access, mayWrite, onlyPrimary: true }
    })
  }

  async function verify(exchange: Exchange, route: Route): Promise<void> {
    let caller: Caller
    try {
      caller = await verifier.verify(exchange.request.headers.authorization)
    } catch (error) {
      if (!(error instanceof TokenError)) throw error
      exchange.log.debug({ error }, 'token refused')
      const required = requiredAccess(exchange.request.method ?? '', targetOf(exchange, route))
      throw unauthorized(settings, required, error.code)
    }
    await admit(exchange, route, caller)
  }

  return {
    authorize(exchange, route) {
      if (route.kind === 'token') return undefined
      const caller = verifier.cached(exchange.request.headers.authorization)
      return caller ? admit(exchange, route, caller) : verify(exchange, route)
    },
    challenge(exchange, route) {
      const target = route ? targetOf(exchange, route) : 'ping'
      return unauthorized(settings, requiredAccess(exchange.request.method ?? '', target), 'invalid')
    },
  }
}

/** `credential`: the site's own where the primary wants one (`auth.none.public`), else none at all. */
export function createOpenAuthorizer(options: { push: boolean; credential: Credential }): Authorizer {
  return {
    authorize(exchange, route) {
      const { method } = exchange.request
      if (!options.push && method !== 'GET' && method !== 'HEAD' && route.kind !== 'token') {
        throw new OciError('UNSUPPORTED', {
          message: 'this site takes no pushes or deletes (auth.none.push): use the primary registry',
          headers: { allow: 'GET, HEAD' },
        })
      }
      exchange.access = { credential: options.credential, mayWrite: options.push, onlyPrimary: false }
      return undefined
    },
    challenge: () =>
      new OciError('UNAUTHORIZED', {
        message:
          'the primary registry wants a login, and this site has none for it (upstream.auth, auth.token)',
      }),
  }
}

function targetOf(exchange: Exchange, route: Route): AccessTarget {
  if (route.kind === 'catalog') return 'catalog'
  if (!('name' in route)) return 'ping'
  // The registry demands pull on it whatever the method, mount or not.
  const from = exchange.query.includes('from=') ? new URLSearchParams(exchange.query).get('from') : null
  return { name: route.name, from: from ?? undefined }
}
