/** What the settings of a relay mean together, and those with which a site follows one. */
import { FileFault, readSecret } from './files.ts'
import type { Judging } from './judging.ts'
import { SETTING_PATHS } from './settings.ts'
import { belongsTo, relaySettingsIn } from './sides.ts'

/** As a bearer token. */
const SENDABLE = /^[\x21-\x7e]+$/

/** Of a file that is a relay's. */
export function judgeRelay(judging: Judging): void {
  const { source, values, given, has, needs, refuses, together, report, apart } = judging
  const [mark = 'relay.sites'] = relaySettingsIn(source)
  refuses(
    SETTING_PATHS.filter((path) => !belongsTo('relay', path)),
    `is a setting of a site, and ${mark} makes this the configuration of a relay: take it out, or write a file for each`,
  )
  needs(['relay.sites'], ', since nobody else may read the log of a relay')
  needs(['http.events.addr'], ", where the primary's registry sends its notifications to a relay")
  const secret = given('replication.notifications.secret') || given('replication.notifications.secretfile')
  if (!secret) needs(['replication.notifications.secretfile'], ', which the notifications come with')
  together('relay.tls.certificate', 'relay.tls.key')
  apart(['http.admin.addr', 'http.events.addr', 'relay.addr'])
  const hasCredential = has('upstream.auth') || given('upstream.tls.certificatefile')
  if ((values['relay.instances']?.length ?? 0) > 0 && !hasCredential && !has('auth.none')) {
    report(
      'upstream.auth',
      'missing; expected a credential that may push to and pull from relay.canary.repository, since relay.instances is set; or "auth: { none: {} }" where the primary is open to all',
    )
  }
  instances(judging)
  sites(judging)
}

/** Of a file that is a site's. */
export function judgeFollowing({ values, given, report, refuses, needs, notBoth, source }: Judging): void {
  notBoth('relay.token', 'relay.tokenfile')
  if (!given('relay.url')) {
    refuses(['relay.token', 'relay.tokenfile', 'relay.cafile'], 'expected relay.url beside it')
  } else if (!given('relay.token')) {
    needs(['relay.tokenfile'], ', since relay.url is set; the relay has the same under relay.sites')
  }
  if (values['tags.freshness'] === 'watermark' && !given('relay.url')) {
    report(
      'tags.freshness',
      'watermark can be had from a relay only; expected relay.url (geo-registry relay, beside the primary), or ask',
      source.given.get('tags.freshness')?.origin,
    )
  }
}

function instances({ values, report, source }: Judging): void {
  const origin = source.given.get('relay.instances')?.origin
  const named = values['relay.instances']
  if (named?.length === 0) {
    report('relay.instances', 'empty; expected every process of the registry, or no such setting', origin)
  }
  for (const [index, url] of named?.entries() ?? []) {
    if (named?.indexOf(url) !== index) report(`relay.instances[${index}]`, `${url} is named twice`, origin)
  }
}

/** A site is known by its token: no two may have the same. */
function sites({ values, report, source }: Judging): void {
  const origin = source.given.get('relay.sites')?.origin
  const named = values['relay.sites']
  if (named?.length === 0) report('relay.sites', 'empty; expected at least one site', origin)
  const nameOf = new Map<string, string>()
  const names = new Set<string>()
  for (const [index, { name, tokenfile }] of named?.entries() ?? []) {
    if (names.has(name)) report(`relay.sites[${index}].name`, `${name} is named twice`, origin)
    names.add(name)
    try {
      const token = readSecret(tokenfile)
      if (!SENDABLE.test(token)) {
        report(
          `relay.sites[${index}].tokenfile`,
          `${tokenfile} holds what no header can carry; expected ASCII without spaces`,
          origin,
        )
      }
      const other = nameOf.get(token)
      if (other !== undefined) {
        report(
          `relay.sites[${index}].tokenfile`,
          `${tokenfile} holds the token of ${other}; expected one of its own`,
          origin,
        )
      }
      nameOf.set(token, name)
    } catch (error) {
      if (!(error instanceof FileFault)) throw error
      report(`relay.sites[${index}].tokenfile`, error.message, origin)
    }
  }
}
