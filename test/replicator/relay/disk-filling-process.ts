/** Appends to a log on a small disk until it is full, and then again with room: `node disk-filling-process.ts FOLDER`. */
import { appendFileSync, mkdirSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { contentOf, noticeOf, openLog } from './log-fixture.ts'

const [root = ''] = process.argv.slice(2)
const folder = join(root, 'relay')
mkdirSync(folder)
const ballast = join(root, 'ballast')
appendFileSync(ballast, Buffer.alloc(300_000))

const failures: unknown[] = []
const options = { segmentBytes: 100_000, deps: { onFailure: (error: unknown) => failures.push(error) } }
const log = await openLog(folder, options)
const acknowledged: string[] = []
let refused = ''
for (let index = 0; refused === ''; index++) {
  try {
    const id = `e${index}`
    acknowledged.push(`${await log.append([noticeOf(id)])} ${id}`)
  } catch (error) {
    refused = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
}
const isSame = (content: readonly string[]) => JSON.stringify(content) === JSON.stringify(acknowledged)
const whenFull = await contentOf(log)
rmSync(ballast)
const afterwards = await log.append([noticeOf('afterwards')])
acknowledged.push(`${afterwards} afterwards`)
const content = await contentOf(log)
await log.close()
const again = await openLog(folder, options)
const result = {
  refused,
  readableWhenFull: JSON.stringify(whenFull) === JSON.stringify(acknowledged.slice(0, -1)),
  acknowledgedAreThere: isSame(content),
  takenAfterwards: afterwards === whenFull.length + 1,
  sameAfterRestart: isSame(await contentOf(again)),
  told: failures.length === 1,
}
await again.close()
writeSync(1, JSON.stringify(result))
