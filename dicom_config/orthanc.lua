-- Orthanc forwards to the UAIR node what readers say about its candidates. Research software, not a medical device.
--
-- List this file in "LuaScripts"; the four modalities must be in "DicomModalities" under these names (orthanc.json
-- has them). Only studies that hold candidates are looked at. There, this goes on:
--
--   a SEG that is not the node's own               an edited candidate: UAIR_PICK
--   a Key Object that names candidates or pages    UAIR_PICK, but no rejection notes
--   any of these, an SR or a presentation state,   the word's modality
--   with a word in its Series Description or
--   Content Label
--
-- Everything else stays, first of all what the node itself sends.

local NODE_AET = 'UAIR'             -- what the node calls itself (destinations: calling_ae)
local NODE_MANUFACTURER = 'UAIR node'
local OTHER_WRITERS = {}            -- AE titles of other systems that store segmentations: {AI1 = true}
local PICK = 'UAIR_PICK'
local WORDS = {                     -- the same as node.tags
  {'PICK', PICK},
  {'REJECT', 'UAIR_REJECT'},
  {'ACCEPT', 'UAIR_ACCEPT'},
}

local SEGMENTATION, KEY_OBJECT, REPORT = 1, 2, 3
local KINDS = {
  ['1.2.840.10008.5.1.4.1.1.66.4'] = SEGMENTATION,
  ['1.2.840.10008.5.1.4.1.1.66.7'] = SEGMENTATION,
  ['1.2.840.10008.5.1.4.1.1.88.59'] = KEY_OBJECT,
  ['1.2.840.10008.5.1.4.1.1.88.22'] = REPORT,
  ['1.2.840.10008.5.1.4.1.1.88.33'] = REPORT,
  ['1.2.840.10008.5.1.4.1.1.88.34'] = REPORT,
  ['1.2.840.10008.5.1.4.1.1.11.1'] = REPORT,
}
local REJECTIONS = {['113001'] = true, ['113037'] = true, ['113038'] = true, ['113039'] = true}


local function candidate_series(study_uid)
  local query = {
    Level = 'Series',
    Expand = true,
    Query = {StudyInstanceUID = study_uid, SeriesDescription = 'UAIR *'},
  }
  local found = {}
  for _, series in ipairs(ParseJson(RestApiPost('/tools/find', DumpJson(query)))) do
    local number = string.match(series.MainDicomTags.SeriesDescription or '', '^UAIR R%d+C%d')
      or string.match(series.MainDicomTags.SeriesDescription or '', '^UAIR PAGES ')
    if number then
      found[series.MainDicomTags.SeriesInstanceUID] = true
    end
  end
  return found
end


local function names_one_of(value, uids)
  if type(value) ~= 'table' then
    return uids[value] == true
  end
  for _, part in pairs(value) do
    if names_one_of(part, uids) then
      return true
    end
  end
  return false
end


local function is_rejection(tags)
  for _, title in pairs(tags.ConceptNameCodeSequence or {}) do
    if REJECTIONS[title.CodeValue] then
      return true
    end
  end
  return false
end


local function tagged(tags)
  local text = string.upper((tags.SeriesDescription or '') .. ' / ' .. (tags.ContentLabel or ''))
  for _, word in ipairs(WORDS) do
    if string.find(text, '%f[%w]' .. word[1] .. '%f[%W]') then
      return word[2]
    end
  end
end


local function asked(tags)
  local kind = KINDS[tags.SOPClassUID]
  if not kind then
    return nil
  end
  local candidates = candidate_series(tags.StudyInstanceUID)
  if next(candidates) == nil then
    return nil
  end
  local modality = tagged(tags)
  if modality then
    return modality
  elseif kind == SEGMENTATION and tags.Manufacturer ~= NODE_MANUFACTURER then
    return PICK
  elseif kind == KEY_OBJECT and not is_rejection(tags) and names_one_of(tags, candidates) then
    return PICK
  end
end


function OnStoredInstance(instance, tags, metadata, origin)
  local sender = origin.RemoteAet or ''
  if origin.RequestOrigin == 'DicomProtocol' and (sender == NODE_AET or OTHER_WRITERS[sender]) then
    return
  end
  local modality = asked(tags)
  if modality then
    SendToModality(instance, modality)
  end
end
