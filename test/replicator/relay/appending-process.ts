/**
 * A process that appends to the relay's log as fast as it can, to be killed: `node appending-process.ts FOLDER RUN`. Says
 * `<number> <event id>` on standard output for each append that resolved.
 */
import { writeSync } from 'node:fs'
import { noticeOf, openLog } from './log-fixture.ts'

const [folder = '', run = ''] = process.argv.slice(2)
const log = await openLog(folder, { segmentBytes: 40_000, touchEveryMs: 20 })
await Promise.all(Array.from({ length: 20 }, (_, writer) => appendForever(writer)))

async function appendForever(writer: number): Promise<void> {
  for (let index = 0; ; index++) {
    const id = `${run}.${writer}.${index}`
    writeSync(1, `${await log.append([noticeOf(`${id}-first`), noticeOf(id)])} ${id}\n`)
  }
}
