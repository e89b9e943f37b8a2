/** A blob that is not here yet: over a long line against asking the primary oneself, and without any line. */
import { startLink } from '../support/link.ts'
import { median, takeTurns, writtenBack } from './measure.ts'
import type { Reading } from './reader.ts'
import { readLast } from './readers.ts'
import { absolute, atMost, mebibytes, megabytesPerSecond, milliseconds, type Row } from './report.ts'
import { expectStatus, getBlob, getManifest, LONG_LINE, MIB, REPOSITORY, type Scene } from './scene.ts'

const ROUNDS = 5
const SIZE_BYTES = 256 * MIB
const WARM_UPS = 30
const WARM_UP_BYTES = MIB
const BOUNDS = { firstByteLaterMs: 5, whole: 1.05, loopbackBytesPerSecond: 250e6 }

export async function measureColdBlob(scene: Scene): Promise<Row[]> {
  return [...(await overTheLine(scene)), await onLoopback(scene)]
}

async function overTheLine(scene: Scene): Promise<Row[]> {
  await using link = await startLink({ target: scene.primary.url, ...LONG_LINE })
  await using site = await scene.startSite({ primary: link.url })
  await warmUp(scene, site.url)
  const readings = await takeTurns(ROUNDS, {
    site: (round) => pull(scene, site.url, round),
    direct: (round) => pull(scene, link.url, round),
  })
  await expectBytes(scene, site.url)
  const work = `cold blob of ${mebibytes(SIZE_BYTES)}, 100 MB/s and 20 ms each way`
  const [ours, theirs] = [medians(readings.site), medians(readings.direct)]
  const laterMs = ours.firstByteMs - theirs.firstByteMs
  const firstByte = {
    work: `${work}: first byte`,
    geoRegistry: milliseconds(ours.firstByteMs),
    against: `direct ${milliseconds(theirs.firstByteMs)}`,
    ratio: `${laterMs < 0 ? '−' : '+'}${milliseconds(Math.abs(laterMs))}`,
    bound: `≤ +${BOUNDS.firstByteLaterMs} ms`,
    met: laterMs <= BOUNDS.firstByteLaterMs,
  }
  const whole = {
    work: `${work}: whole`,
    geoRegistry: milliseconds(ours.totalMs),
    against: `direct ${milliseconds(theirs.totalMs)}`,
  }
  return [firstByte, atMost(whole, ours.totalMs / theirs.totalMs, BOUNDS.whole)]
}

async function onLoopback(scene: Scene): Promise<Row> {
  await using site = await scene.startSite()
  await warmUp(scene, site.url)
  const readings = await takeTurns(ROUNDS, {
    site: (round) => pull(scene, site.url, round),
    direct: (round) => pull(scene, scene.primary.url, round),
  })
  const rate = ({ totalMs }: Reading) => (SIZE_BYTES / totalMs) * 1000
  const [ours, theirs] = [rate(medians(readings.site)), rate(medians(readings.direct))]
  return {
    ...absolute(
      `cold blob of ${mebibytes(SIZE_BYTES)} on loopback`,
      megabytesPerSecond(ours),
      `≥ ${megabytesPerSecond(BOUNDS.loopbackBytesPerSecond)}`,
      ours >= BOUNDS.loopbackBytesPerSecond,
    ),
    against: `direct ${megabytesPerSecond(theirs)}`,
  }
}

/** The blob is pushed to the primary first: what that leaves for the disk is not the reader's. */
async function pull(scene: Scene, url: string, round: number): Promise<Reading> {
  const blob = await scene.blob(SIZE_BYTES, round)
  await writtenBack()
  return await readLast(url, [getManifest(scene), getBlob(scene, blob)])
}

/** Connections to the primary are kept warm, and compilers warm up: what is measured is a site in service. */
async function warmUp(scene: Scene, url: string): Promise<void> {
  for (let index = 0; index < WARM_UPS; index++) {
    await readLast(url, [getManifest(scene), getBlob(scene, await scene.blob(WARM_UP_BYTES, index))])
  }
}

async function expectBytes(scene: Scene, url: string): Promise<void> {
  await using api = scene.api(url)
  const { digest } = await scene.blob(SIZE_BYTES, 0)
  const answer = await api.getBlob(REPOSITORY, digest)
  expectStatus(answer, 200)
  if (answer.digest !== digest) throw new Error(`what came for ${digest} is something else`)
}

function medians(readings: readonly Reading[]): Reading {
  return {
    firstByteMs: median(readings.map(({ firstByteMs }) => firstByteMs)),
    totalMs: median(readings.map(({ totalMs }) => totalMs)),
  }
}
