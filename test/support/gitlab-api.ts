/**
 * GitLab's registry as far as geo-registry sees it: `/gitlab/v1/` as facts/gitlab.md 5.1 has it (the base, a
 * repository's tags with digests, renaming), and everything else by the docker-registry behind it, whose root folder is
 * read for what its own API does not say.
 */
import { mkdir, readdir, readFile, rename, stat } from 'node:fs/promises'
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { errorBody } from '../../src/oci/errors.ts'
import type { DockerRegistry } from './docker-registry.ts'
import { type HttpListener, listenHttp } from './http-listener.ts'

export interface GitlabApiOptions {
  /** False: as without the metadata database, 404 and its version. Default true. */
  readonly database?: boolean
  /** `http.host`, of which it makes `Link`s; default what the request was sent to. */
  readonly host?: string
}

export interface GitlabApi extends HttpListener {
  /** `127.0.0.1:<port>`, as clients name it in a reference. */
  readonly host: string
  /** Method and target of every request, oldest first: `GET /gitlab/v1/`. */
  readonly requests: readonly string[]
}

interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

const VERSION = { 'gitlab-container-registry-version': '4.13.0' }
const ROUTE = /^\/gitlab\/v1\/repositories\/(.+?)\/(tags\/list\/)?$/

export async function startGitlabApi(
  registry: Pick<DockerRegistry, 'port' | 'root'>,
  options: GitlabApiOptions = {},
): Promise<GitlabApi> {
  const { database = true } = options
  const repositories = join(registry.root, 'docker/registry/v2/repositories')
  const requests: string[] = []
  const listener = await listenHttp((incoming, response) => {
    const { method = '', url = '' } = incoming
    requests.push(`${method} ${url}`)
    const serving = url.startsWith('/gitlab/v1')
      ? answerItself(incoming).then((answer) => send(response, answer))
      : passOn(incoming, response)
    serving.catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined))
  })

  async function answerItself(incoming: IncomingMessage): Promise<Answer> {
    const url = new URL(incoming.url ?? '', options.host ?? `http://${incoming.headers.host}`)
    if (!database) return { status: 404 }
    if (!url.pathname.endsWith('/')) {
      return { status: 301, headers: { location: `${url.pathname}/${url.search}` } }
    }
    if (url.pathname === '/gitlab/v1/') return json(200, {})
    const [, name, list] = ROUTE.exec(url.pathname) ?? []
    if (name === undefined) return { status: 404, body: '404 page not found\n' }
    if (list !== undefined && incoming.method === 'GET') return await tagsOf(name, url, incoming)
    if (list === undefined && incoming.method === 'PATCH') return await renamed(name, url, incoming)
    return { status: 405 }
  }

  async function tagsOf(name: string, url: URL, { headers }: IncomingMessage): Promise<Answer> {
    const size = Number(url.searchParams.get('n') ?? 100)
    if (!(size >= 1 && size <= 1000)) return refused(400, 'INVALID_QUERY_PARAMETER_VALUE')
    // The registry behind it decides who may ask, and whether there is such a repository.
    const { authorization } = headers
    const behind = await fetch(`http://127.0.0.1:${registry.port}/v2/${name}/tags/list`, {
      headers: authorization === undefined ? {} : { authorization },
    })
    const body = await behind.text()
    if (behind.status !== 200) {
      const challenge = behind.headers.get('www-authenticate')
      return {
        status: behind.status,
        headers: challenge === null ? {} : { 'www-authenticate': challenge },
        body,
      }
    }
    const tags = join(repositories, name, '_manifests/tags')
    const last = url.searchParams.get('last')
    const rest = (await readdir(tags)).toSorted().filter((tag) => last === null || tag > last)
    const page = await Promise.all(rest.slice(0, size).map((tag) => describe(tags, tag)))
    const links = [
      ...(last === null ? [] : [linkTo(url, { n: `${size}`, before: rest[0] }, 'previous')]),
      ...(rest.length > size ? [linkTo(url, { n: `${size}`, last: rest[size - 1] }, 'next')] : []),
    ]
    return json(200, page, links.length > 0 ? { link: links.join(', ') } : {})
  }

  async function describe(tags: string, tag: string) {
    const digest = await readFile(join(tags, tag, 'current/link'), 'utf8')
    const { mtime } = await stat(join(tags, tag, 'current/link'))
    return { name: tag, digest, created_at: mtime.toISOString(), published_at: mtime.toISOString() }
  }

  /** Of the repository and all under it, as GitLab does when a project is renamed or moved. Asks nobody's permission. */
  async function renamed(name: string, url: URL, incoming: IncomingMessage): Promise<Answer> {
    const fields: unknown = JSON.parse(Buffer.concat(await incoming.toArray()).toString('utf8'))
    const to = newPath(name, fields)
    if (to === undefined) return refused(400, 'INVALID_BODY_PARAMETER_VALUE')
    if (!(await exists(join(repositories, name)))) return refused(404, 'NAME_UNKNOWN')
    if (await exists(join(repositories, to))) return refused(409, 'NAME_CONFLICT')
    if (url.searchParams.get('dry_run') === 'true') return json(202, { ttl: new Date().toISOString() })
    await mkdir(dirname(join(repositories, to)), { recursive: true })
    await rename(join(repositories, name), join(repositories, to))
    return { status: 204 }
  }

  async function passOn(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const { method, url: path, headers } = incoming
    const outgoing = request({ host: '127.0.0.1', port: registry.port, method, path, headers }, resolve)
    outgoing.on('error', reject)
    incoming.pipe(outgoing)
    const answer = await promise
    response.writeHead(answer.statusCode ?? 502, { ...answer.headers, ...VERSION })
    await pipeline(answer, response)
  }

  return { ...listener, host: `127.0.0.1:${listener.port}`, requests }
}

function send(response: ServerResponse, { status, headers = {}, body = '' }: Answer): void {
  response.writeHead(status, { ...VERSION, ...headers, 'content-length': String(Buffer.byteLength(body)) })
  response.end(body)
}

function json(status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(value) }
}

function refused(status: number, code: string): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: errorBody(code, code.toLowerCase()),
  }
}

function linkTo(url: URL, query: Readonly<Record<string, string | undefined>>, relation: string): string {
  const target = new URL(url.pathname, url.origin)
  for (const [name, value] of Object.entries(query)) target.searchParams.set(name, value ?? '')
  return `<${target.href}>; rel="${relation}"`
}

/** `{name}` replaces the last component, `{namespace}` all before it. */
function newPath(path: string, fields: unknown): string | undefined {
  if (typeof fields !== 'object' || fields === null) return undefined
  const at = path.lastIndexOf('/')
  if ('name' in fields && typeof fields.name === 'string') return path.slice(0, at + 1) + fields.name
  if ('namespace' in fields && typeof fields.namespace === 'string') {
    return `${fields.namespace}/${path.slice(at + 1)}`
  }
  return undefined
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
