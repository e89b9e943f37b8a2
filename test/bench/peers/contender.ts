/** The caches that are compared, each on an empty folder, at the far end of a line of its own to the one primary. */
import { join } from 'node:path'
import { startDockerRegistry } from '../../support/docker-registry.ts'
import { startGeoRegistry } from '../../support/geo-registry.ts'
import { type Link, startLink } from '../../support/link.ts'
import { startNginx } from '../../support/nginx.ts'
import { tempFolder } from '../../support/temp.ts'
import { LONG_LINE } from '../scene.ts'
import { type Course, SILENT } from './course.ts'
import { cachingNginx } from './nginx-cache.ts'

/** How long a tag is believed, where that can be set. */
export const TRUST_SECONDS = 10

export interface Contender extends AsyncDisposable {
  readonly name: ContenderName
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  /** By tag, when the primary is asked at each pull; undefined: it cannot be run so. */
  readonly askingUrl: string | undefined
  /** By tag, when it is believed for `TRUST_SECONDS`; undefined: it cannot be run so. */
  readonly trustingUrl: string | undefined
  /** Of the process behind `url`. */
  readonly pid: number
  readonly line: Link
}

export interface ContenderOptions {
  /** Options of node itself for geo-registry: `--cpu-prof`. */
  readonly nodeOptions?: readonly string[]
}

type Start = (
  course: Course,
  line: Link,
  options: ContenderOptions,
) => Promise<Omit<Contender, 'name' | 'line'>>

/** Ours first; the others are held against it. */
export const CONTENDERS = ['geo-registry', 'docker-registry', 'NGINX'] as const
export type ContenderName = (typeof CONTENDERS)[number]

const STARTS: Readonly<Record<ContenderName, Start>> = {
  'geo-registry': startSites,
  'docker-registry': startPullThrough,
  NGINX: startCachingNginx,
}

export async function startContender(
  name: ContenderName,
  course: Course,
  options: ContenderOptions = {},
): Promise<Contender> {
  await using starting = new AsyncDisposableStack()
  const line = starting.use(await startLink({ target: course.primary.url, ...LONG_LINE }))
  const started = starting.use(await STARTS[name](course, line, options))
  const owned = starting.move()
  return { ...started, name, line, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** `serve` as it comes, and a second one that trusts tags. */
async function startSites({ cacheUser }: Course, line: Link, { nodeOptions }: ContenderOptions) {
  await using starting = new AsyncDisposableStack()
  const config = {
    upstream: {
      auth: { username: cacheUser.name, password: cacheUser.password, realm: cacheUser.realm },
    },
    auth: { none: { public: true } },
    log: { level: 'warn' },
  }
  const options = { primary: line.url, ...(nodeOptions && { nodeOptions }) }
  const site = starting.use(await startGeoRegistry({ ...options, config }))
  const trusting = starting.use(
    await startGeoRegistry({ ...options, config: { ...config, tags: { trust: `${TRUST_SECONDS}s` } } }),
  )
  const owned = starting.move()
  return {
    url: site.url,
    askingUrl: site.url,
    trustingUrl: trusting.url,
    pid: site.pid,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** It asks at each pull by tag; nothing it has changes that. */
async function startPullThrough({ cacheUser }: Course, line: Link) {
  const registry = await startDockerRegistry({
    proxyOf: line.url,
    config: { proxy: { username: cacheUser.name, password: cacheUser.password }, log: SILENT },
  })
  return {
    url: registry.url,
    askingUrl: registry.url,
    trustingUrl: undefined,
    pid: registry.pid,
    [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
  }
}

async function startCachingNginx({ cacheAuthorization }: Course, line: Link) {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('nginx-cache'))
  const nginx = starting.use(
    await startNginx(
      cachingNginx({
        primary: line.url,
        authorization: cacheAuthorization,
        folder: join(folder.path, 'cache'),
        tagSeconds: TRUST_SECONDS,
      }),
    ),
  )
  const owned = starting.move()
  return {
    url: nginx.url,
    askingUrl: undefined,
    trustingUrl: nginx.url,
    pid: nginx.pid,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
