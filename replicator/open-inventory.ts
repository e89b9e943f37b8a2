/** The inventory of whichever registry the primary is: GitLab's own API where it answers, else the lists all have. */
import type { Logger } from '../src/log.ts'
import { singleFlight } from '../src/single-flight.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import { refusal } from '../src/upstream/failure.ts'
import { unlessAborted } from '../src/upstream/unless-aborted.ts'
import type { Upstream } from '../src/upstream/upstream.ts'
import { readWhole } from '../src/upstream/whole-body.ts'
import { createGitlabInventory } from './gitlab-inventory.ts'
import type { Inventory } from './inventory.ts'
import { createListPages, fieldsOf } from './list-pages.ts'
import { createOciInventory } from './oci-inventory.ts'

export interface InventoryDeps {
  readonly upstream: Pick<Upstream, 'origin' | 'forward'>
  readonly log: Pick<Logger, 'info' | 'warn'>
}

export interface InventoryOptions {
  /** Until the head of an answer has become its whole body; default 30 000. */
  readonly bodyMs?: number | undefined
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

type Kind = Awaited<ReturnType<Inventory['kind']>>

/** A registry gets its metadata database, or loses it, at a restart: nothing that must be noticed sooner. */
const KIND_HOLDS_MS = 10 * 60_000
const PROBE_MAX_BYTES = 64 * 1024

export function createInventory({ upstream, log }: InventoryDeps, options: InventoryOptions = {}): Inventory {
  const { bodyMs = 30_000, now = () => performance.now() } = options
  const pages = createListPages({ upstream }, { bodyMs })
  const oci = createOciInventory({ pages, log })
  const gitlab = createGitlabInventory({ pages })
  const probes = singleFlight<'kind', Kind>()
  let known: { readonly kind: Kind; readonly untilMs: number } | undefined
  let last: Kind | undefined

  async function probe(): Promise<Kind> {
    const answer = await upstream.forward({
      method: 'GET',
      url: `${upstream.origin}/gitlab/v1/`,
      headers: { 'user-agent': 'geo-registry', 'accept-encoding': 'identity' },
      operation: 'read',
      scope: '',
      credential: { kind: 'site' },
    })
    if (answer.status >= 500 || answer.status === 429) {
      throw await refusal(answer, { what: 'GET of /gitlab/v1/', deadlineMs: bodyMs })
    }
    // Other registries answer paths they do not know in many ways, a sign-in page with 200 among them.
    const body = await readWhole(answer.body, PROBE_MAX_BYTES, bodyMs)
    const kind = answer.status === 200 && isObject(body) ? 'gitlab' : 'oci'
    if (kind !== last) log.info({ inventory: kind }, 'how the primary lists its tags')
    last = kind
    known = { kind, untilMs: now() + KIND_HOLDS_MS }
    return kind
  }

  async function kind(signal?: AbortSignal): Promise<Kind> {
    if (known && now() < known.untilMs) return known.kind
    return unlessAborted(probes('kind', probe), signal)
  }

  return {
    kind,
    repositories: oci.repositories,
    async tags(name, signal) {
      if ((await kind(signal)) === 'oci') return oci.tags(name, signal)
      try {
        return await gitlab.tags(name, signal)
      } catch (error) {
        // A registry whose database was switched off says 404 to all of this API.
        if (error instanceof UpstreamError && error.kind === 'faulty') known = undefined
        throw error
      }
    },
  }
}

function isObject(bytes: Buffer | undefined): boolean {
  try {
    return fieldsOf(JSON.parse(bytes?.toString('utf8') ?? '')) !== undefined
  } catch {
    return false // HTML: no GitLab registry.
  }
}
