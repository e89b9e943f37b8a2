/**
 * A primary whose tags are written after their events, a relay that is told of them late or never, and the one question
 * that matters: whether a tag that the watermark covers here is older than the bound allows.
 */

import type { LogPage } from '../../replicator/relay/page.ts'
import type { Observation } from '../../src/freshness/freshness.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import { followerScene, MAX_STALENESS_MS } from './follower-scene.ts'
import { notice, repository, tagNamed } from './inbox-world.ts'

export type Step =
  | { readonly kind: 'tick'; readonly ms: number }
  /** Its tag is written, and the write acknowledged, so long after the event. */
  | { readonly kind: 'write'; readonly tag: number; readonly afterMs: number; readonly lost: boolean }
  | { readonly kind: 'deliver' }
  | { readonly kind: 'canary' }
  | { readonly kind: 'relay-restarts' }
  | { readonly kind: 'log-lost' }
  | { readonly kind: 'log-trimmed' }
  /** One question and its answer: on the line, held by the relay, on the line; `meanwhile` a tag is written. */
  | {
      readonly kind: 'exchange'
      readonly ms: readonly [number, number, number]
      readonly meanwhile: number | undefined
    }
  | { readonly kind: 'answer-lost' }
  /** A page that was answered before comes in place of an answer. */
  | { readonly kind: 'repeated'; readonly which: number }
  | { readonly kind: 'site-restarts' }
  | { readonly kind: 'breaks'; readonly part: 'hear' | 'accept' | 'setCursor' | 'advance' | 'beginEpoch' }
  | { readonly kind: 'mended' }
  /** A canary returns, and the site hears of it at once. */
  | { readonly kind: 'follows' }
  /** A pull begins to ask the primary; what it was told comes with `answered`. */
  | { readonly kind: 'asks'; readonly tag: number; readonly ms: number }
  | { readonly kind: 'answered' }

export interface Run {
  /** How often a tag was found covered. */
  readonly covered: number
  /** What broke the bound, in words; undefined: nothing did. */
  readonly broken: string | undefined
}

interface Write {
  readonly tag: number
  readonly digest: Digest
  atMs: number
}

const TAGS: readonly [RepositoryName, Tag][] = [
  [repository('team/app'), tagNamed('a')],
  [repository('team/app'), tagNamed('b')],
  [repository('team/other'), tagNamed('a')],
]
/** By the relay's proof: an epoch begins so long after what ended the one before, at the earliest. */
const EPOCH_REST_MS = 5_000

export async function runModel(steps: readonly Step[]): Promise<Run> {
  const scene = followerScene()
  const { relay } = scene
  const history: Omit<Write, 'tag'>[][] = TAGS.map(() => [])
  const underWay: Write[] = []
  let queue: ReturnType<typeof notice>[] = []
  let epochs = 0
  let endedAtMs: number | undefined = Number.NEGATIVE_INFINITY
  let pages: LogPage[] = []
  let asking: { readonly observation: Observation; readonly said: Digest | undefined }[] = []
  let covered = 0
  let broken: string | undefined
  let writes = 0

  const write = (tag: number): Digest => digestOf(Buffer.from(`${tag} ${writes++}`))
  for (const [tag] of TAGS.entries()) history[tag]?.push({ digest: write(tag), atMs: 0 })

  function tick(ms: number): void {
    const endMs = scene.nowMs + ms
    for (const done of underWay.filter(({ atMs }) => atMs <= endMs).toSorted((a, b) => a.atMs - b.atMs)) {
      history[done.tag]?.push(done)
      underWay.splice(underWay.indexOf(done), 1)
    }
    scene.nowMs = endMs
  }

  /** One write of a tag at a time: which of two the primary applied last, nobody could say. */
  function begin(tag: number, afterMs: number, isLost: boolean): void {
    const [name, named] = TAGS[tag] ?? []
    if (!name || underWay.some((other) => other.tag === tag)) return
    const digest = write(tag)
    underWay.push({ tag, digest, atMs: scene.nowMs + (isLost ? Math.min(afterMs, EPOCH_REST_MS) : afterMs) })
    if (isLost) endEpoch()
    else queue.push(notice('push', name, { ...(named && { tag: named }), digest }))
  }

  function endEpoch(): void {
    relay.watermark = undefined
    endedAtMs = scene.nowMs
  }

  function deliver(): void {
    relay.append(...queue)
    queue = []
  }

  function canary(): void {
    if (endedAtMs !== undefined && scene.nowMs - endedAtMs < EPOCH_REST_MS) return
    deliver()
    if (endedAtMs !== undefined) epochs++
    endedAtMs = undefined
    relay.advance(`epoch-${epochs}`)
  }

  async function exchange(
    [question, held, answer]: readonly [number, number, number],
    meanwhile?: number,
  ): Promise<void> {
    await scene.asked()
    tick(question)
    const arrivedAtMs = scene.nowMs
    tick(held)
    const page = await scene.page(arrivedAtMs)
    if (meanwhile !== undefined) begin(meanwhile, answer / 2, false)
    tick(answer)
    if (!('gone' in page)) pages.push(page)
    await scene.reply(page)
  }

  /** Now, and as it will be when the site hears nothing more for a while. */
  async function look(): Promise<void> {
    const nowMs = scene.nowMs
    for (const laterMs of [0, 2_000, 5_000, 8_000, 9_500]) {
      scene.nowMs = nowMs + laterMs
      for (const [at, [name, tag]] of TAGS.entries()) {
        const digest = await scene.freshness.confirmed(name, tag)
        if (digest === undefined) continue
        if (laterMs === 0) covered++
        const known = [...(history[at] ?? []), ...underWay.filter((each) => each.tag === at)]
        const due = known.findLastIndex(({ atMs }) => atMs < scene.nowMs - MAX_STALENESS_MS)
        const has = known.findIndex((each) => each.digest === digest)
        if (has < due) broken ??= `tag ${at} is covered with write ${has}, long after ${due} was acknowledged`
      }
    }
    scene.nowMs = nowMs
  }

  async function take(step: Step): Promise<void> {
    switch (step.kind) {
      case 'tick':
        return tick(step.ms)
      case 'write':
        return begin(step.tag, step.afterMs, step.lost)
      case 'deliver':
        return deliver()
      case 'canary':
        return canary()
      case 'relay-restarts':
        return endEpoch()
      case 'log-lost':
        relay.beginLog()
        // By the assumption on writes whose event was lost.
        for (const each of underWay) each.atMs = Math.min(each.atMs, scene.nowMs + EPOCH_REST_MS)
        return endEpoch()
      case 'log-trimmed':
        // What is not settled yet is always kept.
        return relay.forget(relay.settledThrough)
      case 'exchange':
        return await exchange(step.ms, step.meanwhile)
      case 'follows':
        canary()
        return await exchange([0, 0, 0])
      case 'answer-lost':
        return await scene.lose()
      case 'repeated': {
        const page = pages[step.which % Math.max(1, pages.length)]
        return page && (await scene.reply(page))
      }
      case 'site-restarts':
        scene.broken.clear()
        scene.start()
        pages = []
        asking = []
        return
      case 'breaks':
        scene.broken.add(step.part)
        return
      case 'mended':
        return scene.broken.clear()
      case 'asks': {
        const [name, tag] = TAGS[step.tag] ?? []
        if (!name || !tag) return
        const observation = await scene.freshness.observe(name, tag)
        tick(step.ms)
        asking.push({ observation, said: history[step.tag]?.at(-1)?.digest })
        return
      }
      case 'answered': {
        const [next] = asking.splice(0, 1)
        if (next?.said) await scene.freshness.confirm(next.observation, next.said)
        return
      }
    }
  }

  scene.start()
  for (const step of steps) {
    await take(step)
    await look()
    if (broken) break
  }
  await scene.follower.close()
  return { covered, broken }
}
