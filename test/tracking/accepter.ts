/**
 * A process of its own that accepts one event after another and says each one's id, a line each, once it was accepted.
 * Made to be killed. Arguments: file, a word for its ids, and how many (default: without end).
 */
import { writeSync } from 'node:fs'
import { createLogger } from '../../src/log.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import { pushOf } from './tracking-fixture.ts'

const [file = '', run = '', count = 'Infinity'] = process.argv.slice(2)
const tracking = await openTracking({ kind: 'sqlite', file }, { log: createLogger({ level: 'silent' }) })
for (let index = 0; index < Number(count); index++) {
  const id = `${run}-${index}`
  await tracking.accept([pushOf(`team/app-${index % 7}`, { id })])
  writeSync(1, `${id}\n`)
}
await tracking[Symbol.asyncDispose]()
