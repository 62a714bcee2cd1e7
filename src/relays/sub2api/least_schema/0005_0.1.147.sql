-- 0.1.147, with what came to 0.1.157: videos, input of images.
alter table usage_logs add column video_count integer, add column image_input_tokens integer not null default 0;
