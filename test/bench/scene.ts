/**
 * What every row is measured on: one primary with token auth, its token service, an image, and blobs that are made and
 * pushed when a row first asks for them. Sites are started by the rows, each on an empty folder.
 */
import { FULL_ACCEPT } from '../../src/oci/media-types.ts'
import { type Content, randomContent } from '../support/content.ts'
import type { Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { mintToken, repositoryAccess, signingKey } from '../support/keys.ts'
import { bearer } from '../support/login.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { startTokenService, type TokenService } from '../support/token-service.ts'
import type { PlannedRequest } from './reader.ts'

export const REPOSITORY = 'bench/app'
export const TAG = 'latest'
export const MIB = 2 ** 20
/** The bench's line between two sites. Latency one way, as the kit counts it. */
export const LONG_LINE = { latencyMs: 20, bytesPerSecond: 100e6 } as const

/** Reads everything, with a password: for a pull-through cache of the primary. */
const CACHE_USER = { name: 'cache', password: 'cache-password', repositories: { '*': ['pull'] } }

export interface SiteOptions {
  /** Default the primary itself. */
  readonly primary?: string
  readonly config?: Tree
  /** Its standard output goes there, as a service manager's journal would take it; default the test kit reads it. */
  readonly logFile?: string
}

export interface Scene extends AsyncDisposable {
  readonly tokenService: TokenService
  readonly primary: DockerRegistry
  /** Under `TAG`; its manifest has the size that manifests usually have. */
  readonly image: Image
  /** Of a request to any of the registries, as a client that has pulled a token sends them. */
  readonly pullHeaders: Readonly<Record<string, string>>
  readonly cacheUser: typeof CACHE_USER
  /** Pseudo-random, on the primary in `REPOSITORY`; another `index` is another blob. */
  blob(sizeBytes: number, index?: number): Promise<Content>
  startSite(options?: SiteOptions): Promise<GeoRegistry>
  /** A client that may pull and push. */
  api(url: string): RegistryApi
}

export async function startScene(): Promise<Scene> {
  const stack = new AsyncDisposableStack()
  try {
    const key = await signingKey()
    const tokenService = stack.use(await startTokenService({ key, users: [CACHE_USER] }))
    const primary = stack.use(await startDockerRegistry({ auth: tokenService }))
    const tokenFor = async (actions: readonly string[]) =>
      // Longer than any run: no row measures a token that ends.
      bearer(
        await mintToken(key, {
          access: [repositoryAccess(REPOSITORY, actions)],
          claims: { exp: IN_A_DAY() },
        }),
      )
    const pullHeaders = { authorization: await tokenFor(['pull']), accept: FULL_ACCEPT }
    const pushAuthorization = await tokenFor(['pull', 'push'])
    const api = (url: string) => createRegistryApi(url, { authorize: () => pushAuthorization })
    const toPrimary = stack.use(api(primary.url))
    const image = await buildImage({ layers: Array.from({ length: 8 }, () => 10_000) })
    await pushImage(toPrimary, REPOSITORY, TAG, image)

    const blobs = new Map<string, Promise<Content>>()
    async function makeBlob(sizeBytes: number, index: number): Promise<Content> {
      const content = await randomContent(sizeBytes, { seed: `${sizeBytes}/${index}` })
      expectStatus(await toPrimary.pushBlob(REPOSITORY, content), 201)
      return content
    }
    const owned = stack.move()
    return {
      tokenService,
      primary,
      image,
      pullHeaders,
      cacheUser: CACHE_USER,
      api,
      async blob(sizeBytes, index = 0) {
        const id = `${sizeBytes}/${index}`
        const blob = blobs.get(id) ?? makeBlob(sizeBytes, index)
        blobs.set(id, blob)
        return await blob
      },
      startSite: (options = {}) =>
        startGeoRegistry({
          primary: options.primary ?? primary.url,
          auth: tokenService,
          ...(options.config && { config: options.config }),
          ...(options.logFile && {
            launcher: ['/bin/sh', '-c', 'log=$1; shift; exec "$@" >>"$log"', 'sh', options.logFile],
          }),
        }),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
}

const IN_A_DAY = () => Math.floor(Date.now() / 1000) + 86_400

export function expectStatus(answer: { readonly status: number }, expected: number): void {
  if (answer.status !== expected) throw new Error(`answered ${answer.status}, not ${expected}`)
}

export const manifestPath = (reference: string) => `/v2/${REPOSITORY}/manifests/${reference}`
export const blobPath = ({ digest }: Pick<Content, 'digest'>) => `/v2/${REPOSITORY}/blobs/${digest}`

/** Where the primary's folder has the file, for NGINX. */
export function storedPath({ digest }: Pick<Content, 'digest'>): string {
  const [algorithm = '', hex = ''] = digest.split(':')
  return `/docker/registry/v2/blobs/${algorithm}/${hex.slice(0, 2)}/${hex}/data`
}

export function getBlob(scene: Scene, content: Content): PlannedRequest {
  return { path: blobPath(content), headers: scene.pullHeaders }
}

/** What a client asks before any blob; on the same connection it makes that connection warm. */
export function getManifest(scene: Scene): PlannedRequest {
  return { path: manifestPath(TAG), headers: scene.pullHeaders }
}

/** Limits are per client, so a crowd needs addresses of its own; all of 127.0.0.0/8 is this machine. */
export const clientAddress = (client: number) => `127.0.1.${client + 1}`
