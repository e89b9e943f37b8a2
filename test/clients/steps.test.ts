/** What fails is told as a step, and what must be refused is taken for refused only when it is. */
import { describe, expect, it } from 'vitest'
import { ProgramError } from '../support/process.ts'
import type { Step } from './cells.ts'
import { createSteps, outageRefusal, refusal } from './steps.ts'

/** `bytesDown`: what every action fetches over the link. */
function stepsOver(bytesDown: number) {
  const told: Step[] = []
  let down = 0
  const counts = () => ({ up: 0, down })
  const sites = { primary: { host: '127.0.0.1:1' }, site: { host: '127.0.0.1:2' }, link: { counts } }
  const steps = createSteps(sites, { name: 'crane', hostname: 'localhost' }, (step) => told.push(step))
  const fetched = async () => {
    down += bytesDown
  }
  return { told, steps, fetched }
}

describe('a step', () => {
  it('that throws is told with its words, and the next one goes on', async () => {
    const { told, steps } = stepsOver(0)
    await steps.step('push', 'direct', () => Promise.reject(new Error('no room')))
    await steps.step('push', 'through', async () => 'said by the client')

    expect(told).toMatchObject([
      { client: 'crane', operation: 'push', phase: 'direct', ok: false, words: 'no room' },
      { client: 'crane', operation: 'push', phase: 'through', ok: true, words: 'said by the client' },
    ])
  })

  it('that is warm fails when it fetched content, a cold one does not', async () => {
    const { told, steps, fetched } = stepsOver(5000)
    await steps.counted('by tag', 'cold', fetched)
    await steps.counted('by tag', 'warm', fetched)

    expect(told.map(({ ok, words }) => [ok, words])).toEqual([
      [true, '0 bytes up, 5000 down over the link'],
      [false, '5000 bytes were fetched once more'],
    ])
  })

  it('at both is done under the name that the client has for this machine, in places of its own', async () => {
    const { steps } = stepsOver(0)
    const seen: string[] = []
    await steps.both('copy', async (host, name) => void seen.push(`${host} ${name}`))

    expect(seen).toEqual(['localhost:1 direct-copy', 'localhost:2 through-copy'])
  })
})

describe('a refusal', () => {
  const failing = (words: string) => Promise.reject(new ProgramError('verify: ended with 1', words))

  it('is what the program says of it', async () => {
    expect(await refusal(failing('no matching signatures'), /no matching/)).toMatch(/no matching signatures/)
    expect(await outageRefusal(failing('status code 503'))).toMatch(/503/)
  })

  it.each([
    ['nothing was refused', async () => {}, 'it was taken'],
    ['it was refused for another reason', () => failing('status code 503'), 'not in words like'],
    ['the program was never asked', () => Promise.reject(new Error('no such folder')), 'no such folder'],
  ])('is none when %s', async (_title, attempt, words) => {
    await expect(refusal(attempt(), /no matching/)).rejects.toThrow(words)
  })
})
