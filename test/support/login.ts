/** Getting tokens as clients do: at the token service, for scopes. */
import type { TokenService } from './token-service.ts'

export interface LoginOptions {
  /** Default anonymous. */
  readonly username?: string
  readonly password?: string
}

/** A token for these scopes; throws with the service's answer when it gives none. */
export async function fetchToken(
  service: Pick<TokenService, 'realm' | 'service'>,
  scopes: readonly string[],
  { username, password }: LoginOptions = {},
): Promise<string> {
  const url = new URL(service.realm)
  url.searchParams.set('service', service.service)
  if (username !== undefined) url.searchParams.set('account', username)
  for (const scope of scopes) url.searchParams.append('scope', scope)
  const headers: Record<string, string> =
    username === undefined ? {} : { authorization: basic(username, password ?? '') }
  const response = await fetch(url, { headers })
  const body: unknown = await response.json()
  if (typeof body === 'object' && body !== null && 'token' in body && typeof body.token === 'string') {
    return body.token
  }
  throw new Error(`no token from ${url}: ${response.status} ${JSON.stringify(body)}`)
}

/** For `createRegistryApi({ authorize })`: a token per scope, kept for four minutes of its five. */
export function createLogin(
  service: Pick<TokenService, 'realm' | 'service'>,
  options: LoginOptions = {},
): (scope: string) => Promise<string> {
  const kept = new Map<string, { readonly header: Promise<string>; readonly untilMs: number }>()
  return async (scope) => {
    const known = kept.get(scope)
    if (known && known.untilMs > performance.now()) return await known.header
    const header = fetchToken(service, scope === '' ? [] : [scope], options).then(bearer)
    kept.set(scope, { header, untilMs: performance.now() + 240_000 })
    return await header
  }
}

export function bearer(token: string): string {
  return `Bearer ${token}`
}

export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}
