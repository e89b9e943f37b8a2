/** Deletes of tags, manifests and blobs. What the primary removed is out of sight here before the client hears of it. */
import type { Digest } from '../src/oci/digest.ts'
import { HEADERS, headerValue } from '../src/oci/headers.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { LinkKind } from '../src/store/repository-index.ts'
import type { ForwardAnswer, Upstream } from '../src/upstream/upstream.ts'
import type { Exchange } from './exchange.ts'
import { passThrough } from './forwarding.ts'
import type { KeepDeps } from './keep-manifest.ts'
import type { Route } from './routes.ts'
import { duringWrite, type WriteSender } from './write-sender.ts'

export interface DeletesDeps extends Pick<KeepDeps, 'index' | 'freshness'> {
  readonly upstream: Pick<Upstream, 'origin'>
  readonly send: WriteSender
}

export interface DeletesOptions {
  /** No byte of an answer for this long ends it. */
  readonly idleMs: number
}

type ManifestRoute = Extract<Route, { kind: 'manifest' }>
type BlobRoute = Extract<Route, { kind: 'blob' }>

export interface Deletes {
  deleteManifest(exchange: Exchange, route: ManifestRoute): Promise<void>
  deleteBlob(exchange: Exchange, route: BlobRoute): Promise<void>
}

export function createDeletes(deps: DeletesDeps, options: DeletesOptions): Deletes {
  const { index, freshness } = deps

  async function forwardDelete(
    exchange: Exchange,
    route: ManifestRoute | BlobRoute,
    hide: Remember,
    doubt: Remember,
  ): Promise<void> {
    const { name } = route
    // A delete by digest takes every tag of the digest with it, so it concerns the whole repository.
    const tags = route.kind === 'manifest' && route.reference.kind === 'tag' ? [route.reference.tag] : []
    // What is deleted there must be hidden here from every process, or not be deleted.
    await index.mayRemove()
    const url = deps.upstream.origin + exchange.path + (exchange.query && `?${exchange.query}`)
    const { answer } = await duringWrite(freshness, name, tags, () =>
      deps.send(exchange, { target: { url, foreign: false }, scope: `repository:${name}:delete` }),
    )
    if (isSuccess(answer)) await orLog(exchange, hide, 'deleted at the primary, but not hidden here')
    // No proof that it is absent (law 5), but whoever reads it next is to have the primary's word: registries delete the
    // parts of an index with it, and somebody else may have deleted it there.
    if (answer.status === 404 && isOfRegistry(answer))
      await orLog(exchange, doubt, 'not at the primary, but not asked about again here')
    await passThrough(exchange, answer, { idleMs: options.idleMs })
  }

  /**
   * The primary's answer stands whatever happens here, and the client is told it; a tag is unconfirmed already, a digest
   * is asked about again within its recheck.
   */
  async function orLog(exchange: Exchange, remember: Remember, otherwise: string): Promise<void> {
    try {
      await remember()
    } catch (error) {
      exchange.log.error({ error, path: exchange.path }, otherwise)
    }
  }

  return {
    deleteManifest(exchange, route) {
      const { name, reference } = route
      return reference.kind === 'tag'
        ? forwardDelete(
            exchange,
            route,
            () => index.hideTag(name, reference.tag),
            async () => {}, // The write has unconfirmed the tag already.
          )
        : forwardDelete(exchange, route, ...onLink(name, 'manifest', reference.digest))
    },
    deleteBlob: (exchange, route) =>
      forwardDelete(exchange, route, ...onLink(route.name, 'layer', route.digest)),
  }

  function onLink(name: RepositoryName, kind: LinkKind, digest: Digest): [hide: Remember, doubt: Remember] {
    return [() => index.hideLink(name, kind, digest), () => index.expireLink(name, kind, digest)]
  }
}

type Remember = () => Promise<void>

/**
 * A registry's own word; a middlebox's 404 is a page (law 5). olareg labels its words as text, and says its API version; so
 * does an NGINX set up by Docker's recipe, of its own pages.
 */
function isOfRegistry({ headers }: ForwardAnswer): boolean {
  const contentType = headerValue(headers, 'content-type') ?? ''
  if (contentType.startsWith('text/html')) return false
  return contentType.startsWith('application/json') || headerValue(headers, HEADERS.apiVersion) !== undefined
}

/** 202 by the specification; some registries say 200 or 204. */
function isSuccess(answer: ForwardAnswer): boolean {
  return answer.status >= 200 && answer.status < 300
}
