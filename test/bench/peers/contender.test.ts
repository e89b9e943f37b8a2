import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../../support/port.ts'
import { createRegistryApi } from '../../support/registry-api.ts'
import { REPOSITORY, TAG } from '../scene.ts'
import { CONTENDERS, startContender } from './contender.ts'
import { type Course, FULL_MEASURES, getContent, getManifest, startCourse } from './course.ts'
import { answerOf, measureOutage } from './outage.ts'
import type { Figures } from './rows.ts'
import { STEPS } from './steps.ts'

const MEASURES = {
  ...FULL_MEASURES,
  bigBytes: 4e6,
  clients: 6,
  singles: 2,
  smalls: 8,
  patienceMs: 5000,
  missPatienceMs: 300,
}

let course: Course
beforeAll(async () => {
  course = await startCourse(MEASURES)
})
afterAll(() => course[Symbol.asyncDispose]())

async function take(
  name: string,
  contender: Parameters<(typeof STEPS)[number]['measure']>[0],
): Promise<Figures> {
  const step = STEPS.find((candidate) => candidate.name === name)
  if (!step) throw new Error(`there is no step ${name}`)
  return await step.measure(contender, course)
}

describe.each(CONTENDERS)('%s as a contender', (name) => {
  it('gives clients without a token the bytes of a primary that wants one', async () => {
    await using contender = await startContender(name, course)

    for (const url of new Set([contender.url, contender.askingUrl, contender.trustingUrl])) {
      if (url === undefined) continue
      await using api = createRegistryApi(url)
      for (const _ of ['cold', 'warm']) {
        expect((await api.getManifest(REPOSITORY, TAG)).digest).toBe(course.image.digest)
        expect((await api.getManifest(REPOSITORY, course.image.digest)).digest).toBe(course.image.digest)
        expect((await api.getBlob(REPOSITORY, course.big.digest)).digest).toBe(course.big.digest)
      }
    }
  })

  it('does the work of every kind, and its figures can be', async () => {
    await using contender = await startContender(name, course)

    const first = await take('cold first bytes', contender)
    const rate = await take('cold rate', contender)
    const big = await take('cold big blob', contender)
    const crowd = await take('crowd', contender)

    // A round trip of the line at least: nothing came from nearer than the primary.
    expect(first.coldFirstByte?.value).toBeGreaterThanOrEqual(40)
    expect(rate.coldRate?.value).toBeGreaterThan(0)
    expect(big.coldBigWhole?.value).toBeGreaterThan(80)
    expect(crowd.crowdRequests?.value).toBeGreaterThanOrEqual(1)
    expect(crowd.crowdBytes?.value).toBeGreaterThan(MEASURES.bigBytes)
    expect(crowd.crowdMemory?.value).toBeGreaterThan(2 ** 20)
    if (name !== 'docker-registry') expect(crowd.crowdBytes?.value).toBeLessThan(MEASURES.bigBytes * 1.1)
  })

  it('is asked over its own line, so that an outage of one is none of another', async () => {
    await using away = await startContender(name, course)
    await using there = await startContender('NGINX', course)
    away.line.blackhole()

    const miss = await answerOf(away.url, getContent(course.never), 300)
    const found = await answerOf(there.url, getContent(course.never), 5000)

    expect(miss.said).toBe('no answer')
    expect(found.said).toBe('200')
  })
})

describe('the outage', () => {
  it('is measured with what is held, and is over afterwards', async () => {
    await using contender = await startContender('geo-registry', course)

    const figures = await measureOutage(contender, course)

    expect(figures.outageTagFirst?.said).toBe('200')
    expect(figures.outageTagFirst?.value).toBeGreaterThan(500)
    expect(figures.outageTagNext?.said).toBe('200')
    expect(figures.outageHeldDigest?.said).toBe('200')
    expect(figures.outageNewDigest?.said).toBe('no answer')
    expect((await answerOf(contender.url, getContent(course.singles[0] ?? course.big), 5000)).said).toBe(
      '200',
    )
  })

  it('tells a closed connection from silence', async () => {
    const nobody = `http://127.0.0.1:${await freePort()}`

    expect((await answerOf(nobody, getManifest(TAG), 5000)).said).toBe('connection closed')
  })
})
