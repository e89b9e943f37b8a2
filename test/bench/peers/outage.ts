/** The primary accepts connections and never answers: what each contender then says, and when. */
import { setTimeout as delay } from 'node:timers/promises'
import type { PlannedRequest } from '../reader.ts'
import { TAG } from '../scene.ts'
import { type Contender, TRUST_SECONDS } from './contender.ts'
import { type Course, getContent, getManifest } from './course.ts'
import type { Figure, Figures } from './rows.ts'

/**
 * Where a tag can be asked for at each pull it is, else it is old enough to be asked for again. All contenders may be in
 * the outage at once: it is waiting, not work.
 */
export async function measureOutage(contender: Contender, course: Course): Promise<Figures> {
  const { url, askingUrl, trustingUrl, line } = contender
  const { patienceMs, missPatienceMs } = course.measures
  const tagUrl = askingUrl ?? trustingUrl ?? url
  const tag = () => answerOf(tagUrl, getManifest(TAG), patienceMs)
  const held = () => answerOf(url, getManifest(course.image.digest), patienceMs)
  await tag()
  await held()
  if (askingUrl === undefined) await delay(TRUST_SECONDS * 1000 + 1000)
  line.blackhole()
  try {
    const outageTagFirst = await tag()
    const [[outageTagNext, outageHeldDigest], outageNewDigest] = await Promise.all([
      tag().then(async (next) => [next, await held()] as const),
      answerOf(url, getContent(course.never), missPatienceMs),
    ])
    return { outageTagFirst, outageTagNext, outageHeldDigest, outageNewDigest }
  } finally {
    line.resume()
  }
}

/** Any status is an answer, and so is a connection that is closed; silence is waited for as long as `patienceMs`. */
export async function answerOf(
  url: string,
  { path, headers }: PlannedRequest,
  patienceMs: number,
): Promise<Figure> {
  const startedAtMs = performance.now()
  const said = await statusOf(new Request(url + path, { headers, signal: AbortSignal.timeout(patienceMs) }))
  return { value: performance.now() - startedAtMs, said }
}

async function statusOf(request: Request): Promise<string> {
  try {
    const response = await fetch(request)
    await response.arrayBuffer()
    return String(response.status)
  } catch (error) {
    if (error instanceof DOMException && error.name === 'TimeoutError') return 'no answer'
    return 'connection closed'
  }
}
