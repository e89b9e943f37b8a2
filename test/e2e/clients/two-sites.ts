/**
 * A token-protected docker-registry, a link that counts, and a site behind it: what every real client is pointed at.
 * The token service is the one both know, as GitLab's is.
 */
import { randomUUID } from 'node:crypto'
import type { Tree } from '../../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../../support/docker-registry.ts'
import { type GeoRegistry, type LogLine, startGeoRegistry } from '../../support/geo-registry.ts'
import type { Image } from '../../support/images.ts'
import { signingKey } from '../../support/keys.ts'
import { type Link, startLink } from '../../support/link.ts'
import { createLogin } from '../../support/login.ts'
import { pushImage } from '../../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../../support/registry-api.ts'
import { startTokenService, type TokenService, type User } from '../../support/token-service.ts'
import { until } from '../../support/wait.ts'

export const DEVELOPER = { username: 'developer', password: 'may push' }
export const READER = { username: 'reader', password: 'may pull' }

export const USERS: readonly User[] = [
  // Whatever is asked for is granted: `skopeo delete` asks for `*` itself.
  { name: DEVELOPER.username, password: DEVELOPER.password, repositories: { 'team/*': ['*'] }, admin: true },
  { name: READER.username, password: READER.password, repositories: { 'team/*': ['pull'] } },
]

export interface Watched {
  /** Both ways between the site and the primary. */
  readonly linkBytes: number
  /** The site's access log about repositories, challenges left out. */
  readonly answers: readonly LogLine[]
  /** Its access log about tokens. */
  readonly logins: readonly LogLine[]
}

export interface TwoSites extends AsyncDisposable {
  readonly tokens: TokenService
  readonly primary: DockerRegistry
  readonly link: Link
  readonly site: GeoRegistry
  /** The developer, through the site. */
  readonly here: RegistryApi
  /** The developer, at the primary. */
  readonly there: RegistryApi
  /** The reader, through the site. */
  readonly reader: RegistryApi
  /** Pushes straight to the primary. */
  publish(name: string, tag: string, image: Image): Promise<void>
  /** What an action costs and how the site answers it. One at a time: it counts everything that goes on. */
  watch(action: () => Promise<unknown>): Promise<Watched>
}

export async function startTwoSites(config: Tree = {}): Promise<TwoSites> {
  await using starting = new AsyncDisposableStack()
  const tokens = starting.use(await startTokenService({ key: await signingKey(), users: USERS }))
  const primary = starting.use(await startDockerRegistry({ auth: tokens }))
  const link = starting.use(await startLink({ target: primary.url }))
  const site = starting.use(await startGeoRegistry({ primary: link.url, auth: tokens, config }))
  const client = (url: string, user: typeof READER) =>
    starting.use(createRegistryApi(url, { authorize: createLogin(tokens, user) }))
  const here = client(site.url, DEVELOPER)
  const there = client(primary.url, DEVELOPER)
  const reader = client(site.url, READER)
  const owned = starting.move()
  return {
    tokens,
    primary,
    link,
    site,
    here,
    there,
    reader,
    publish: async (name, tag, image) => void (await pushImage(there, name, tag, image)),
    async watch(action) {
      await logged(site)
      const before = link.counts()
      const firstLine = site.lines.length
      await action()
      await logged(site)
      const after = link.counts()
      const lines = site.lines.slice(firstLine).filter(({ msg }) => msg === 'access')
      return {
        linkBytes: after.up - before.up + after.down - before.down,
        answers: lines.filter(({ uri, status }) => /^\/v2\/.+/.test(String(uri)) && status !== 401),
        logins: lines.filter(({ uri }) => String(uri).startsWith('/jwt/auth')),
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Waits until the site's log has reached the test: its lines come in order, so the last one asked for is enough. */
async function logged(site: GeoRegistry): Promise<void> {
  const id = randomUUID()
  await fetch(`${site.url}/v2/`, { headers: { 'x-request-id': id } })
  await until(() => site.lines.some((line) => line['correlation_id'] === id), { what: 'the access log' })
}

/** The answers with this method whose path matches. */
export function answersTo(
  { answers }: Watched,
  method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE',
  path: RegExp,
): LogLine[] {
  return answers.filter((line) => line['method'] === method && path.test(String(line['uri'])))
}

/** Where these answers came from, each place once. */
export function placesOf(answers: readonly LogLine[]): unknown[] {
  return [...new Set(answers.map(({ source }) => source))]
}
