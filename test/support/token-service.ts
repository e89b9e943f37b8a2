/**
 * A small stand-in for GitLab's `/jwt/auth`, to the letter of facts/gitlab.md 4.1: GET only, Basic or anonymous, what
 * is not granted is silently left out of `access`, and the answer is `{"token"}` alone.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type HttpListener, listenHttp } from './http-listener.ts'
import { type Access, DEFAULT_ISSUER, DEFAULT_SERVICE, mintToken, type SigningKey } from './keys.ts'

/** Repository path, or a prefix ending in `*`, to what may be done there. The first that matches decides. */
export type Grants = Readonly<Record<string, readonly string[]>>

export interface User {
  readonly name: string
  readonly password: string
  readonly repositories: Grants
  /** Grants `registry:catalog:*`, as to a GitLab admin. */
  readonly admin?: boolean
  /** Default `personal_access_token`. A `deploy_token`'s tokens carry no `sub`. */
  readonly authType?: string
}

export interface TokenServiceOptions {
  readonly key: SigningKey
  readonly users?: readonly User[]
  /** What callers without credentials get; default nothing. */
  readonly anonymous?: Grants
  /** Default `gitlab-issuer`. */
  readonly issuer?: string
  /** The one `service` it knows; default `container_registry`. Another gets 404. */
  readonly service?: string
  /** Default 300, GitLab's. */
  readonly lifetimeSeconds?: number
}

export interface TokenRequest {
  readonly method: string
  readonly url: string
  readonly user: string | undefined
  readonly scopes: readonly string[]
  readonly status: number
}

export interface TokenService extends Pick<HttpListener, 'stop' | 'start'>, AsyncDisposable {
  /** `http://127.0.0.1:<port>/jwt/auth` */
  readonly realm: string
  readonly issuer: string
  readonly service: string
  readonly key: SigningKey
  /** Every request it has answered, oldest first. */
  readonly requests: readonly TokenRequest[]
  /** `meta.project_id` of the tokens, by repository path; change it to replace a project. Default: none is sent. */
  readonly projectIds: Map<string, number>
  /** GitLab's maintenance mode: everything but pull is denied. */
  maintenance: boolean
}

interface Answer {
  readonly status: number
  readonly body: unknown
  readonly headers?: Record<string, string>
}

const SCOPE = /^([a-z]+)(?:\([^)]*\))?:(.+):([^:]+)$/

export async function startTokenService(options: TokenServiceOptions): Promise<TokenService> {
  const { key, issuer = DEFAULT_ISSUER, service = DEFAULT_SERVICE } = options
  const requests: TokenRequest[] = []
  const projectIds = new Map<string, number>()
  const listener = await listenHttp((request, response) => void serve(request, response))

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume()
    const { method = '', url = '' } = request
    const { pathname, searchParams } = new URL(url, listener.url)
    const credentials = parseBasic(request.headers.authorization)
    const scopes = searchParams.getAll('scope').flatMap((value) => value.split(' ').filter(Boolean))
    const known =
      pathname === '/jwt/auth' &&
      method === 'GET' &&
      searchParams.get('service') === service &&
      (searchParams.get('account') ?? credentials?.name) === credentials?.name
    const answer: Answer = known ? await authorize(credentials, scopes) : { status: 404, body: undefined }
    requests.push({ method, url, user: credentials?.name, scopes, status: answer.status })
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers })
    response.end(answer.body === undefined ? undefined : JSON.stringify(answer.body))
  }

  async function authorize(credentials: Credentials | undefined, scopes: string[]): Promise<Answer> {
    const user = options.users?.find(
      ({ name, password }) => name === credentials?.name && password === credentials.password,
    )
    if (credentials && !user) return UNAUTHORIZED
    const access = scopes.flatMap((scope) => granted(scope, user))
    // Rails: an anonymous caller who may do none of what is asked is refused; a user gets an empty token.
    if (!user && access.length === 0) return DENIED
    return { status: 200, body: { token: await mint(access, user) } }
  }

  function granted(scope: string, user: User | undefined): Access[] {
    const [, type, name, asked] = SCOPE.exec(scope) ?? []
    if (!type || !name || !asked) return []
    if (type === 'registry') return user?.admin ? [{ type, name, actions: ['*'] }] : []
    if (type !== 'repository') return []
    const allowed = lookUp(user?.repositories ?? options.anonymous ?? {}, name)
    const actions = asked
      .split(',')
      .filter((action) => allowed.includes(action) || allowed.includes('*'))
      .filter((action) => action === 'pull' || !tokenService.maintenance)
    if (actions.length === 0) return []
    const projectId = projectIds.get(name)
    const meta = {
      project_path: name.toLowerCase(),
      ...(projectId === undefined ? {} : { project_id: projectId, root_namespace_id: 1 }),
    }
    return [{ type, name, actions, meta }]
  }

  async function mint(access: Access[], user: User | undefined): Promise<string> {
    const authType = user?.authType ?? 'personal_access_token'
    const now = Math.floor(Date.now() / 1000)
    return await mintToken(key, {
      access,
      iss: issuer,
      aud: service,
      iat: now,
      exp: now + (options.lifetimeSeconds ?? 300),
      auth_type: user ? authType : '',
      ...(user && authType !== 'deploy_token' ? { sub: user.name } : {}),
    })
  }

  const tokenService: TokenService = {
    realm: `${listener.url}/jwt/auth`,
    issuer,
    service,
    key,
    requests,
    projectIds,
    maintenance: false,
    stop: listener.stop,
    start: listener.start,
    [Symbol.asyncDispose]: listener.stop,
  }
  return tokenService
}

const UNAUTHORIZED: Answer = {
  status: 401,
  headers: { 'www-authenticate': 'Basic realm="GitLab"' },
  body: {
    errors: [
      {
        code: 'UNAUTHORIZED',
        message: 'HTTP Basic: Access denied. The provided password or token is incorrect',
      },
    ],
  },
}
const DENIED: Answer = {
  status: 403,
  body: { errors: [{ code: 'DENIED', message: 'access forbidden' }], http_status: 403 },
}

function lookUp(grants: Grants, name: string): readonly string[] {
  const match = Object.entries(grants).find(([pattern]) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
  )
  return match?.[1] ?? []
}

interface Credentials {
  readonly name: string
  readonly password: string
}

function parseBasic(authorization: string | undefined): Credentials | undefined {
  const [, encoded] = /^basic (.+)$/i.exec(authorization ?? '') ?? []
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString()
  const colon = text.indexOf(':')
  return colon === -1 ? undefined : { name: text.slice(0, colon), password: text.slice(colon + 1) }
}
