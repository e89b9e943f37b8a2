/** What a registry says of a change, as it posts it. */
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import type { Change } from './watermark-model-primary.ts'

export interface EventText {
  readonly id: string
  /** Of the process that says it. */
  readonly instanceId: string
  readonly userAgent: string
  /** Registries date their events by clocks that are anything. */
  readonly timestamp: string
}

export function envelopeOf(
  what: Change | CanaryEvent,
  { id, instanceId, userAgent, timestamp }: EventText,
): Buffer {
  const event = {
    id,
    timestamp,
    ...said(what),
    request: { id: `request-${id}`, useragent: userAgent },
    source: { addr: 'registry:5000', instanceID: instanceId },
  }
  return Buffer.from(JSON.stringify({ events: [event] }))
}

/** What a canary is told as. */
export interface CanaryEvent {
  readonly kind: 'canary'
  readonly action: 'pull' | 'push'
  readonly repository: string
  readonly digest: string
  readonly tag: string
}

function said(what: Change | CanaryEvent): object {
  if (what.kind === 'canary') {
    const { action, repository, digest, tag } = what
    const target = { mediaType: MEDIA_TYPES.ociManifest, repository, digest }
    return { action, target: action === 'push' ? { ...target, tag } : target }
  }
  const repository = what.name
  const mediaType = MEDIA_TYPES.ociManifest
  switch (what.kind) {
    case 'push':
      return { action: 'push', target: { mediaType, repository, digest: what.digest, tag: what.tag } }
    case 'push-untagged':
      return { action: 'push', target: { mediaType, repository, digest: what.digest } }
    case 'delete-tag':
      return { action: 'delete', target: { repository, tag: what.tag } }
    case 'delete-digest':
      return { action: 'delete', target: { repository, digest: what.digest } }
    case 'delete-repository':
      return { action: 'delete', target: { repository } }
    case 'rename':
      return {
        action: 'rename',
        target: { repository, rename: { type: 'rename', from: what.name, to: what.to } },
      }
  }
}
