/**
 * What every peer is run over: one primary that wants tokens, as all real ones do, an image and blobs on it, and its own
 * count of what it was asked for.
 */
import { FULL_ACCEPT } from '../../../src/oci/media-types.ts'
import { type Content, randomContent } from '../../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../../support/docker-registry.ts'
import { buildImage, type Image } from '../../support/images.ts'
import { mintToken, repositoryAccess, signingKey } from '../../support/keys.ts'
import { bearer } from '../../support/login.ts'
import { onFreePort } from '../../support/port.ts'
import { pushImage } from '../../support/push-image.ts'
import { createRegistryApi } from '../../support/registry-api.ts'
import { startTokenService } from '../../support/token-service.ts'
import type { PlannedRequest } from '../reader.ts'
import { blobPath, expectStatus, MIB, manifestPath, REPOSITORY, TAG } from '../scene.ts'

/** How much work there is. */
export interface Measures {
  /** Of the big blobs: one pulled by one client, one by all of the crowd. */
  readonly bigBytes: number
  readonly clients: number
  /** Of 1 MiB, each pulled once, for the first byte. */
  readonly singles: number
  /** Of 64 KiB, all pulled over `coldConnections`. */
  readonly smalls: number
  readonly coldConnections: number
  /** How long a rate is taken for. */
  readonly seconds: number
  readonly manifestConnections: number
  /** How long an answer about a tag, or about what is held, is waited for in an outage. */
  readonly patienceMs: number
  /** The same for a blob that is not here. */
  readonly missPatienceMs: number
}

export const FULL_MEASURES: Measures = {
  bigBytes: 100e6,
  clients: 20,
  singles: 20,
  smalls: 200,
  coldConnections: 8,
  seconds: 3,
  manifestConnections: 32,
  patienceMs: 12_000, // NGINX answers after its read timeout of 10 s.
  missPatienceMs: 32_000, // geo-registry answers after its `upstream.timeouts.head` of 30 s.
}

export const SMALL_BYTES = 64 * 1024
const WARM_UPS = 10

export interface Course extends AsyncDisposable {
  readonly measures: Measures
  readonly primary: Pick<DockerRegistry, 'url'>
  /** What a cache logs in with; it may read everything. */
  readonly cacheUser: { readonly name: string; readonly password: string; readonly realm: string }
  /** The same as an `Authorization`, valid for a day, for a cache that cannot log in. */
  readonly cacheAuthorization: string
  /** Under `TAG`. */
  readonly image: Image
  readonly big: Content
  readonly crowded: Content
  /** On the primary, pulled by nobody before the outage. */
  readonly never: Content
  readonly singles: readonly Content[]
  readonly smalls: readonly Content[]
  readonly warmUps: readonly Content[]
  /** For manifests and blobs, answered by the primary since it started. */
  primaryRequests(): Promise<number>
}

export async function startCourse(measures: Measures): Promise<Course> {
  await using starting = new AsyncDisposableStack()
  const key = await signingKey()
  const cacheUser = { name: 'cache', password: 'cache-password', repositories: { '*': ['pull'] } }
  const tokenService = starting.use(await startTokenService({ key, users: [cacheUser] }))
  const { primary, metricsUrl } = await onFreePort(async (debugPort) => {
    const debug = { addr: `127.0.0.1:${debugPort}`, prometheus: { enabled: true, path: '/metrics' } }
    return {
      primary: await startDockerRegistry({ auth: tokenService, config: { http: { debug }, log: SILENT } }),
      metricsUrl: `http://127.0.0.1:${debugPort}/metrics`,
    }
  })
  starting.use(primary)
  const authorization = async (actions: readonly string[]) =>
    bearer(
      await mintToken(key, {
        access: [repositoryAccess(REPOSITORY, actions)],
        claims: { exp: Math.floor(Date.now() / 1000) + 86_400 },
      }),
    )
  const pusher = await authorization(['pull', 'push'])
  await using api = createRegistryApi(primary.url, { authorize: () => pusher })
  async function pushed(sizeBytes: number, seed: string): Promise<Content> {
    const content = await randomContent(sizeBytes, { seed })
    expectStatus(await api.pushBlob(REPOSITORY, content), 201)
    return content
  }
  async function allPushed(count: number, sizeBytes: number, seed: string): Promise<Content[]> {
    const contents: Content[] = []
    for (let index = 0; index < count; index++) contents.push(await pushed(sizeBytes, `${seed}/${index}`))
    return contents
  }
  const image = await buildImage({ layers: Array.from({ length: 8 }, () => 10_000) })
  await pushImage(api, REPOSITORY, TAG, image)
  const contents = {
    big: await pushed(measures.bigBytes, 'big'),
    crowded: await pushed(measures.bigBytes, 'crowded'),
    never: await pushed(SMALL_BYTES, 'never'),
    singles: await allPushed(measures.singles, MIB, 'single'),
    smalls: await allPushed(measures.smalls, SMALL_BYTES, 'small'),
    warmUps: await allPushed(WARM_UPS, MIB, 'warm-up'),
  }
  const owned = starting.move()
  return {
    ...contents,
    measures,
    primary,
    cacheUser: { ...cacheUser, realm: tokenService.realm },
    cacheAuthorization: await authorization(['pull']),
    image,
    primaryRequests: async () => countRequests(await (await fetch(metricsUrl)).text()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Distribution's log without requests: none of the peers writes them, and a pipe that the bench reads is work for it. */
export const SILENT = { level: 'error', accesslog: { disabled: true } }

/** As every client of a cache asks: without a token. */
const HEADERS = { accept: FULL_ACCEPT }

export const getContent = (content: Pick<Content, 'digest'>): PlannedRequest => ({
  path: blobPath(content),
  headers: HEADERS,
})

export const getManifest = (reference: string): PlannedRequest => ({
  path: manifestPath(reference),
  headers: HEADERS,
})

/** From Distribution's own metrics: `registry_http_requests_total{code="200",handler="blob",method="get"} 12`. */
export function countRequests(metrics: string): number {
  const counts = metrics.matchAll(
    /^registry_http_requests_total\{[^}]*handler="(?:blob|manifest)"[^}]*\} (\S+)$/gm,
  )
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
}
