/**
 * The envelope a registry posts, read for what it may mean to this site. Lenient by intent: an unknown action or field
 * must never make a registry repeat an event, for behind it wait all later ones (facts/gitlab.md 3.1–3.3).
 * https://distribution.github.io/distribution/about/notifications/
 */
import { createHash } from 'node:crypto'
import { type Digest, parseDigest } from '../src/oci/digest.ts'
import { MEDIA_TYPES } from '../src/oci/media-types.ts'
import { parseRepositoryName, parseTag } from '../src/oci/reference.ts'
import type { EventAction, InboxEvent } from '../src/tracking/tracking.ts'

/** One event that may matter here; a tag or digest outside the grammar is left out of it. */
export type Notice = Omit<InboxEvent, 'receivedAtMs'>

/**
 * `pull` changes nothing; `blob`: a pushed blob is named by no tag yet; `name`: no repository, or one outside the
 * grammar; `action`: one we do not know.
 */
export type IgnoredEvent = 'pull' | 'blob' | 'name' | 'action'

/** Which process of the registry sent an event, and whose request it tells of; each undefined where it is not said. */
export interface Arrival {
  readonly instanceId: string | undefined
  readonly userAgent: string | undefined
}

export interface ReadNotification {
  readonly notices: readonly Notice[]
  /** Of every event of the envelope, those that are ignored too, in their order. */
  readonly arrivals: readonly Arrival[]
  /** Why each event that is not among the notices is not. */
  readonly ignored: readonly IgnoredEvent[]
}

/** The bytes are no envelope; the message says what was expected. */
export class NotificationError extends Error {
  override readonly name = 'NotificationError'
}

const KEPT_ACTIONS: readonly EventAction[] = ['push', 'delete', 'mount', 'rename']
/** In 16 MiB there is room for half as many as a registry writes them; more is made to take memory and time. */
const MAX_EVENTS = 100_000
/** Registries send a UUID. Anything else could be text that a database does not take, or is not worth an index. */
const EVENT_ID = /^[\x21-\x7e]{1,128}$/

/** Throws `NotificationError`. */
export function readEnvelope(bytes: Buffer): ReadNotification {
  const notices: Notice[] = []
  const ignored: IgnoredEvent[] = []
  const arrivals: Arrival[] = []
  for (const event of eventsOf(bytes)) {
    arrivals.push({
      instanceId: textField(field(event, 'source'), 'instanceID'),
      userAgent: textField(field(event, 'request'), 'useragent'),
    })
    const read = readEvent(event)
    if (typeof read === 'string') ignored.push(read)
    else notices.push(read)
  }
  return { notices, arrivals, ignored }
}

/** An envelope without `events` has none: both registries leave an empty list out. */
function eventsOf(bytes: Buffer): readonly unknown[] {
  let envelope: unknown
  try {
    envelope = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw new NotificationError('expected an envelope of events in JSON', { cause: error })
  }
  if (typeof envelope !== 'object' || envelope === null || Array.isArray(envelope)) {
    throw new NotificationError('expected an envelope of events: a JSON object with the field "events"')
  }
  const events = field(envelope, 'events') ?? []
  if (!Array.isArray(events)) throw new NotificationError('events: expected a list')
  if (events.length > MAX_EVENTS) throw new NotificationError(`events: expected at most ${MAX_EVENTS}`)
  return events
}

function readEvent(event: unknown): Notice | IgnoredEvent {
  const target = field(event, 'target')
  const rename = field(target, 'rename')
  const said = textField(event, 'action')
  if (said === 'pull') return 'pull'
  const action = KEPT_ACTIONS.find((kept) => kept === said)
  if (action === undefined) return 'action'
  const from = action === 'rename' ? textField(rename, 'from') : undefined
  const repository = parseRepositoryName(from ?? textField(target, 'repository') ?? '')
  if (repository === undefined) return 'name'
  const tag = parseTag(textField(target, 'tag') ?? '')
  if (action === 'push' && tag === undefined && textField(target, 'mediaType') === MEDIA_TYPES.octetStream) {
    return 'blob'
  }
  return {
    id: idOf(event),
    action,
    repository,
    tag,
    // A deleted blob and a deleted manifest look alike: the digest alone.
    digest: digestField(target),
    renamedTo: action === 'rename' ? parseRepositoryName(textField(rename, 'to') ?? '') : undefined,
  }
}

/**
 * What stays the same when an event is sent again. Made of single fields, since the event may be nested deeper than it
 * can be written out.
 */
function idOf(event: unknown): string {
  const id = textField(event, 'id')
  if (id !== undefined && EVENT_ID.test(id)) return id
  const target = field(event, 'target')
  const rename = field(target, 'rename')
  const parts = [
    id,
    ...['timestamp', 'action'].map((name) => textField(event, name)),
    ...['repository', 'tag', 'digest'].map((name) => textField(target, name)),
    ...['from', 'to'].map((name) => textField(rename, name)),
    textField(field(event, 'request'), 'id'),
  ]
  return `sha256:${createHash('sha256').update(JSON.stringify(parts)).digest('hex')}`
}

function digestField(target: unknown): Digest | undefined {
  return parseDigest(textField(target, 'digest') ?? '')
}

function textField(of: unknown, name: string): string | undefined {
  const value = field(of, name)
  return typeof value === 'string' ? value : undefined
}

function field(of: unknown, name: string): unknown {
  return typeof of === 'object' && of !== null && Object.hasOwn(of, name) ? Reflect.get(of, name) : undefined
}
