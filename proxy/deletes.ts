/** Deletes of tags, manifests and blobs. What the primary removed is out of sight here before the client hears of it. */
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
    hide: () => Promise<void>,
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
    if (isSuccess(answer)) await hideOrLog(exchange, hide)
    await passThrough(exchange, answer, { idleMs: options.idleMs })
  }

  /**
   * The primary has deleted it whatever happens here, and the client is told so; a tag is unconfirmed already, a digest
   * within its recheck.
   */
  async function hideOrLog(exchange: Exchange, hide: () => Promise<void>): Promise<void> {
    try {
      await hide()
    } catch (error) {
      exchange.log.error({ error, path: exchange.path }, 'deleted at the primary, but not hidden here')
    }
  }

  return {
    deleteManifest: (exchange, route) =>
      forwardDelete(exchange, route, () =>
        route.reference.kind === 'tag'
          ? index.hideTag(route.name, route.reference.tag)
          : index.hideLink(route.name, 'manifest', route.reference.digest),
      ),
    deleteBlob: (exchange, route) =>
      forwardDelete(exchange, route, () => index.hideLink(route.name, 'layer', route.digest)),
  }
}

/** 202 by the specification; some registries say 200 or 204. */
function isSuccess(answer: ForwardAnswer): boolean {
  return answer.status >= 200 && answer.status < 300
}
