/** What every bus owes its site. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Bus, BusMessage } from '../../src/bus/bus.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, type RepositoryName } from '../../src/oci/reference.ts'
import { until } from '../support/wait.ts'

export interface BusSubject extends AsyncDisposable {
  /** Members of one site that can hear each other by now; in one process both are the same. */
  readonly one: Bus
  readonly other: Bus
}

export function nameOf(text: string): RepositoryName {
  const name = parseRepositoryName(text)
  if (!name) throw new Error(`${text} is no repository name`)
  return name
}

/** Everything a bus tells from now on. */
export function record(bus: Bus): BusMessage[] {
  const heard: BusMessage[] = []
  bus.on('hint', (message) => heard.push(message))
  bus.on('blob-gone', (message) => heard.push(message))
  bus.on('traffic', (message) => heard.push(message))
  return heard
}

const HINT: BusMessage = { kind: 'hint', name: nameOf('team/app') }
const GONE: BusMessage = { kind: 'blob-gone', digest: digestOf(Buffer.from('gone')) }
const TRAFFIC: BusMessage = { kind: 'traffic', arrivedBytes: 2 ** 40, requests: 3, servedBytes: 0 }

export function busContract(make: () => Promise<BusSubject>): void {
  let subject: BusSubject
  beforeEach(async () => {
    subject = await make()
  })
  afterEach(() => subject[Symbol.asyncDispose]())

  describe('a message', () => {
    it('reaches every listener of the site once, the sender’s own included', async () => {
      const { one, other } = subject
      const heard = [record(one), record(one), record(other)]

      for (const message of [HINT, GONE, TRAFFIC]) one.publish(message)

      await until(() => heard.every((messages) => messages.length === 3), { what: 'all to be heard' })
      one.publish(HINT)
      await until(() => heard.every((messages) => messages.length > 3), { what: 'one more to be heard' })
      for (const messages of heard) expect(messages).toEqual([HINT, GONE, TRAFFIC, HINT])
    })

    it('is told only to those who listen to its kind', async () => {
      const { one, other } = subject
      const hints: unknown[] = []
      other.on('hint', (message) => hints.push(message))

      one.publish(GONE)
      one.publish(HINT)

      await until(() => hints.length > 0, { what: 'the hint' })
      expect(hints).toEqual([HINT])
    })

    it('reaches the others when one listener fails', async () => {
      const { one, other } = subject
      other.on('hint', () => {
        throw new Error('this listener is broken')
      })
      const heard = record(other)

      expect(() => one.publish(HINT)).not.toThrow()
      await until(() => heard.length === 1, { what: 'the other listener to be told' })
    })

    it('is nobody’s after the end, and ending twice is no fault', async () => {
      const { one } = subject
      const heard = record(one)

      await one[Symbol.asyncDispose]()
      await one[Symbol.asyncDispose]()
      one.publish(HINT)

      expect(heard).toEqual([])
    })
  })
}
